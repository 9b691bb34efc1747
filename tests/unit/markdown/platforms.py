"""Every dialect, and what its platform would make of a message, written without the code under test."""

from __future__ import annotations

import html
import re
import unicodedata
from dataclasses import dataclass

from core.adapter import TextLimits
from core.markdown.dialect import Dialect, plain_markdown
from core.markdown.dialects.dingtalk import DINGTALK
from core.markdown.dialects.discord import DISCORD
from core.markdown.dialects.feishu import FEISHU
from core.markdown.dialects.plain import WECHAT
from core.markdown.dialects.slack import SLACK_MARKDOWN, SLACK_MRKDWN

_ALL = r"@(?:everyone|here|channel|all(?![a-z])|所有人|全体成员)"


@dataclass(frozen=True)
class Platform:
    """A dialect, the pattern of what its platform would act on, and whether it decodes entities."""

    dialect: Dialect
    live: re.Pattern[str]
    entities: bool = True

    def mentions(self, message: str) -> list[str]:
        """What in the message would notify somebody, look-alikes folded."""
        return self.live.findall(unicodedata.normalize("NFKC", message))

    def small(self, length: int) -> Dialect:
        """The dialect with messages of another length."""
        limits = TextLimits(max_length=length, count=self.dialect.limits.count)
        return Dialect(name=self.dialect.name, limits=limits, write=self.dialect.write, verbatim=self.dialect.verbatim)


PLATFORMS = {
    "discord": Platform(DISCORD, re.compile(_ALL + r"|<@[!&]?\d+>|<#\d+>", re.IGNORECASE), entities=False),
    "slack-markdown": Platform(SLACK_MARKDOWN, re.compile(_ALL + r"|<[@!#]", re.IGNORECASE)),
    "slack-mrkdwn": Platform(SLACK_MRKDWN, re.compile(_ALL + r"|<[@!#]", re.IGNORECASE)),
    "feishu": Platform(FEISHU, re.compile(_ALL + r"|<\s*/?\s*(?:at|person)\b", re.IGNORECASE)),
    "dingtalk": Platform(DINGTALK, re.compile(_ALL + r"|@\d{11}|<[a-zA-Z/!]", re.IGNORECASE)),
    "plain": Platform(WECHAT, re.compile(_ALL, re.IGNORECASE), entities=False),
}

COMMONMARK = Platform(plain_markdown(TextLimits(max_length=100_000)), re.compile("(?!)"))


_ESCAPE = re.compile(r"&(?:#\d{1,7}|lt|gt|amp);|%[0-9A-F]{2}")


def _escaped(escape: str, *, entities: bool) -> str:
    """What an escape stands for; percent signs occur in targets of links."""
    if escape.startswith("%"):
        return chr(int(escape[1:], 16))
    return html.unescape(escape) if entities else ""


def missing(wanted: str, message: str, *, entities: bool) -> str:
    """The first of the `wanted` characters that cannot be read in `message`, in order, and those after it."""
    at = 0
    for index, character in enumerate(wanted):
        while True:
            if at >= len(message):
                return wanted[index:]
            if message[at] == character:
                at += 1
                break
            match = _ESCAPE.match(message, at) if message[at] in "&%" else None
            if match and _escaped(match[0], entities=entities) == character:
                at = match.end()
                break
            at += 1
    return ""
