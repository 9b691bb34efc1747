"""Server-sent events are read as the standard says, however the network cuts them."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.sse import EventParser, EventTooLong


def parse(*pieces: bytes) -> list[bytes]:
    parser = EventParser()
    return [event for piece in pieces for event in parser.feed(piece)] + parser.close()


@pytest.mark.parametrize("newline", [b"\n", b"\r\n", b"\r"])
def test_every_line_ending_ends_a_line(newline: bytes) -> None:
    assert parse(newline.join([b"data: a", b"", b"data: b", b"", b""])) == [b"a", b"b"]


def test_several_data_lines_are_one_event() -> None:
    assert parse(b"data: a\ndata\ndata:b\n\n") == [b"a\n\nb"]


def test_one_space_after_the_colon_is_no_data() -> None:
    assert parse(b"data:  a \n\n") == [b" a "]


def test_comments_names_and_ids_are_read_over() -> None:
    assert parse(b": keepalive\n\nevent: x\nid: 1\nretry: 3\ndatabase: no\ndata: a\n\nevent: empty\n\n") == [b"a"]


def test_a_byte_order_mark_is_no_part_of_the_first_line() -> None:
    assert parse(b"\xef\xbb", b"\xbfdata: a\n\n") == [b"a"]


def test_an_event_without_its_blank_line_comes_at_the_end() -> None:
    parser = EventParser()
    assert parser.feed(b"data: a\n\ndata: b") == [b"a"]
    assert parser.close() == [b"b"]
    assert parser.close() == []


def test_events_come_as_soon_as_they_are_complete() -> None:
    parser = EventParser()
    assert parser.feed(b"data: a\r\n\r") == [b"a"]
    assert parser.feed(b"\ndata: b\n") == []
    assert parser.feed(b"\n") == [b"b"]


@given(
    texts=st.lists(st.text(st.characters(exclude_characters="\r\n", codec="utf-8"), min_size=1), max_size=5),
    newline=st.sampled_from(["\n", "\r\n", "\r"]),
    data=st.data(),
)
def test_how_the_stream_is_cut_changes_nothing(texts: list[str], newline: str, data: st.DataObject) -> None:
    whole = "".join(f"data: {text}{newline}: comment{newline}data:.{newline}{newline}" for text in texts).encode()
    cuts = sorted(data.draw(st.sets(st.integers(0, len(whole)))) | {0, len(whole)})
    pieces = [whole[start:end] for start, end in itertools.pairwise(cuts)]
    assert parse(*pieces) == [f"{text}\n.".encode() for text in texts]
    assert parse(*(bytes([byte]) for byte in whole)) == [f"{text}\n.".encode() for text in texts]


def test_a_line_without_an_end_is_bounded() -> None:
    parser = EventParser(longest=100)
    for _ in range(100):
        parser.feed(b"x")
    with pytest.raises(EventTooLong):
        parser.feed(b"x")


def test_an_event_without_an_end_is_bounded() -> None:
    parser = EventParser(longest=100)
    for _ in range(10):
        parser.feed(b"data: 0123456789\n")
    with pytest.raises(EventTooLong):
        parser.feed(b"data: 0123456789\n")
