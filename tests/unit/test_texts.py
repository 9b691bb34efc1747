"""What the gateway says, in whose language."""

from __future__ import annotations

import re
import string
from dataclasses import replace

import pytest

from core.messages import Sender, UserId
from core.texts import TEXTS, Language, language_of, say
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


@pytest.mark.parametrize("name", sorted(TEXTS))
def test_both_languages_of_a_text_speak_of_the_same_things(name: str) -> None:
    english, chinese = ({field for _, field, _, _ in string.Formatter().parse(text) if field} for text in TEXTS[name])
    assert english == chinese
    values = dict.fromkeys(english, "VALUE")
    assert say(name, "en", **values).count("VALUE") >= len(english)
    assert say(name, "zh", **values) != say(name, "en", **values)


def test_values_are_not_read_as_formats() -> None:
    assert "{0.__class__}" in say("not_allowed", "en", person="{0.__class__}")


@pytest.mark.parametrize(
    ("count", "text"),
    [
        (1, "Done. 1 turn of this conversation was deleted for good."),
        (0, "Done. 0 turns of this conversation were deleted for good."),
        (11, "Done. 11 turns of this conversation were deleted for good."),
    ],
)
def test_a_word_fits_its_number(count: int, text: str) -> None:
    assert say("forget_done", "en", count=count) == text


@pytest.mark.parametrize(("messages", "word"), [("1", "message"), ("3 of 1", "message"), ("1 of 5", "messages")])
def test_of_some_the_word_fits_the_last_number(messages: str, word: str) -> None:
    text = say("usage_today", "en", title="You", messages=messages, tokens="1,001")
    assert text == f"You, today: {messages} {word}, 1,001 tokens"


@pytest.mark.parametrize("name", sorted(TEXTS))
def test_one_of_something_is_not_spoken_of_as_several(name: str) -> None:
    constants = ("minutes", "longest", "limit", "length")  # all above 1
    fields = (field for _, field, _, _ in string.Formatter().parse(TEXTS[name][0]) if field)
    spoken = say(name, "en", **{field: 5 if field in constants else 1 for field in fields})
    assert not set(re.findall(r"\b1 (?:[a-z]+ )?([a-z]+s)\b", spoken)) - {"is", "was"}


def test_a_text_that_does_not_exist_is_a_mistake() -> None:
    with pytest.raises(KeyError):
        say("no such text", "en")
