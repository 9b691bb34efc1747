"""A table that stays small."""

from __future__ import annotations

from collections import Counter

from core.latest import Latest


def test_the_oldest_is_forgotten() -> None:
    latest: Latest[str, int] = Latest(2)
    for number, key in enumerate("abc"):
        latest[key] = number
    assert dict(latest) == {"b": 1, "c": 2}


def test_one_that_is_set_again_becomes_the_latest() -> None:
    latest: Latest[str, int] = Latest(2)
    for key in "abac":
        latest[key] = 0
    assert list(latest) == ["a", "c"]


def test_what_is_asked_for_is_made_once_and_becomes_the_latest() -> None:
    latest: Latest[str, Counter[str]] = Latest(2)
    first = latest.of("a", Counter)  # empty, but kept as it is
    assert latest.of("b", Counter) is not first
    assert latest.of("a", Counter) is first
    latest.of("c", Counter)
    assert list(latest) == ["a", "c"]
