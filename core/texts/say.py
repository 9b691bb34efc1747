"""How a text of the catalogue is said: in whose language, and with which values."""

from __future__ import annotations

import re
import string
from typing import Any, Literal

from core.messages import InboundMessage
from core.texts.commands import COMMANDS
from core.texts.notices import NOTICES

Language = Literal["en", "zh"]

SLASHES = ("/", "／")
"""What a command begins with. Chinese input methods write the full-width one (U+FF0F)."""

_CJK = re.compile(r"[\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff]")


def language_of(message: InboundMessage) -> Language:
    """The language to answer in: that of the text if it tells, else the person's locale, else English."""
    if _CJK.search(message.text):
        return "zh"
    command = message.text.lstrip().startswith(SLASHES)
    if message.sender.locale and (command or not re.search("[A-Za-z]{3}", message.text)):
        return "zh" if message.sender.locale.lower().startswith("zh") else "en"
    return "en"


TEXTS = NOTICES | COMMANDS
"""By name, in English and Chinese."""


class _Texts(string.Formatter):
    """`{count:message|messages}` is the word that fits the number, also that of `1 of 5`."""

    def format_field(self, value: Any, format_spec: str) -> str:
        one, both, many = format_spec.partition("|")
        if not both:
            return str(super().format_field(value, format_spec))
        return one if str(value).rpartition(" ")[2] == "1" else many


_FORMATTER = _Texts()


def say(name: str, language: Language, **values: object) -> str:
    """The text called `name`. Raises KeyError for a name or value that is missing: a mistake in the program."""
    english, chinese = TEXTS[name]
    return _FORMATTER.format(chinese if language == "zh" else english, **values)
