"""Discord's Markdown.

Sources: https://docs.discord.com/developers/reference#message-formatting (mentions, `<url>` without a preview),
https://support.discord.com/hc/articles/210298617 (Markdown: three headings, lists, quotes of one level, spoilers, masked
links; no tables, rules or images), and the 2,000 characters of a message's content, on which the API answers 50035
(https://docs.discord.com/developers/resources/message#create-message).
"""

from __future__ import annotations

import re

from core.adapter import TextLimits
from core.markdown.chatwriter import ChatWriter, unquoted
from core.markdown.dialect import Dialect
from core.markdown.measure import utf16_units
from core.markdown.mentions import BREAK, defuse
from core.markdown.plaintext import plain
from core.markdown.tree import Blocks, Inlines

_SPECIAL = re.compile(r"[\\*`~\[\]]|\|(?=\|)|(?<=\|)\||(?<![^\W_])_|_(?![^\W_])")

# Users, roles, channels, emoji, commands, times, guild pages.
_TAGS = re.compile(r"<(?=@[!&]?\d|#\d|a?:\w+:\d|/[^\n:>]*:\d|t:-?\d|id:)")


class DiscordWriter(ChatWriter):
    def document(self, blocks: Blocks) -> str:
        return defuse(super().document(blocks), _TAGS)

    def heading(self, level: int, children: Inlines) -> str:
        text = self.inlines(children)
        return f"{'#' * level} {text}".rstrip() if level <= 3 else self.styled("**", children, "")

    def quote(self, children: Blocks) -> str:
        return super().quote(unquoted(children))

    def text(self, text: str) -> str:
        return _SPECIAL.sub(r"\\\g<0>", text)

    def code(self, text: str) -> str:
        text = text.replace("``", f"`{BREAK}`")  # no longer marks than two are known
        if "`" not in text:
            return f"`{text}`"
        return f"`` {text} ``"

    def anchor(self, target: str, children: Inlines) -> str:
        if "://" in plain(children) or target.lower().startswith("mailto:"):  # words with a URL are not masked
            return super().anchor(target, children)
        return f"[{self.span(children)}](<{target}>)"

    def address(self, target: str) -> str:
        return self.text(target.removeprefix("mailto:")) if target.startswith("mailto:") else f"<{target}>"

    def line_break(self, *, hard: bool) -> str:  # noqa: ARG002
        return "\n"


DISCORD = Dialect(
    name="Discord",
    limits=TextLimits(max_length=2000, count=utf16_units, edit_interval=1.2),
    write=DiscordWriter().document,
)
"""The content of a message. Counted in UTF-16 units, which is at least what the API counts."""
