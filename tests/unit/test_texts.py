"""What the gateway says, in whose language."""

from __future__ import annotations

import string
from dataclasses import replace

import pytest

from core.messages import Sender, UserId
from core.texts import _TEXTS, Language, language_of, say
from tests.unit.test_messages import message


@pytest.mark.parametrize(
    ("text", "locale", "language"),
    [
        ("hello", None, "en"),
        ("你好", None, "zh"),
        ("你好", "en-US", "zh"),
        ("hello there", "zh-CN", "en"),
        ("???", "zh-CN", "zh"),
        ("42", None, "en"),
        ("/status", "zh-TW", "zh"),
        ("/status", "en-GB", "en"),
        ("／status", "zh-TW", "zh"),
        (" /status", "zh-TW", "zh"),
        ("/状态", "en-GB", "zh"),
        ("", "zh", "zh"),
        ("bonjour", "fr", "en"),
    ],
)
def test_the_language_is_that_of_the_text_else_of_the_person(text: str, locale: str | None, language: Language) -> None:
    spoken = replace(message(), text=text, sender=Sender(id=UserId("ann"), locale=locale))
    assert language_of(spoken) == language


@pytest.mark.parametrize("name", sorted(_TEXTS))
def test_both_languages_of_a_text_speak_of_the_same_things(name: str) -> None:
    english, chinese = ({field for _, field, _, _ in string.Formatter().parse(text) if field} for text in _TEXTS[name])
    assert english == chinese
    values = dict.fromkeys(english, "VALUE")
    assert say(name, "en", **values).count("VALUE") >= len(english)
    assert say(name, "zh", **values) != say(name, "en", **values)


def test_values_are_not_read_as_formats() -> None:
    assert "{0.__class__}" in say("not_allowed", "en", person="{0.__class__}")


def test_a_text_that_does_not_exist_is_a_mistake() -> None:
    with pytest.raises(KeyError):
        say("no such text", "en")
