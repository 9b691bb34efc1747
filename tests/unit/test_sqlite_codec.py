"""What is stored is what came in, whatever the characters."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.messages import (
    AccountId,
    Attachment,
    ChannelId,
    EventId,
    InboundMessage,
    MessageId,
    Quoted,
    ReplyAddress,
    Sender,
    ThreadId,
    UserId,
)
from core.storage.codec import day, decode, encode, micros, moment, name, storable

ENCODABLE = st.text(st.characters(exclude_categories=["Cs"]))
ANY = st.text(st.characters()) | st.text(st.characters(categories=["Cs"]), max_size=3)
TIMES = st.datetimes(
    min_value=datetime(1970, 1, 2),
    max_value=datetime(9000, 1, 1),
    timezones=st.just(UTC) | st.just(timezone(timedelta(hours=8))),
)


def messages(text: st.SearchStrategy[str]) -> st.SearchStrategy[InboundMessage]:
    """Messages with `text` in every place that holds one."""
    return st.builds(
        InboundMessage,
        id=text.map(MessageId),
        event=text.map(EventId),
        account=text.map(AccountId),
        sender=st.builds(Sender, id=text.map(UserId), display_name=text, is_bot=st.booleans(), locale=st.none() | text),
        channel=text.map(ChannelId),
        thread=st.none() | text.map(ThreadId),
        is_direct=st.booleans(),
        mentions_bot=st.booleans(),
        text=text,
        quoted=st.none() | st.builds(Quoted, author=text, text=text),
        attachments=st.lists(
            st.builds(Attachment, name=text, media_type=text, size=st.none() | st.integers(0), source=text), max_size=2
        ).map(tuple),
        sent_at=TIMES,
        reply_to=text.map(ReplyAddress),
    )


@given(messages(ENCODABLE))
def test_a_message_is_read_back_as_it_was(message: InboundMessage) -> None:
    assert decode(encode(message)) == message


@given(messages(ANY))
def test_any_string_can_be_stored_and_only_surrogate_pairs_are_joined(message: InboundMessage) -> None:
    body = encode(message)
    body.encode()  # SQLite takes UTF-8
    assert "\0" not in body
    read = decode(body)
    joined = message.text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "surrogatepass")
    assert read.text == joined
    assert read.sent_at == message.sent_at


@given(ANY)
def test_a_stored_text_is_utf_8_and_keeps_every_other_character(text: str) -> None:
    stored = storable(text)
    stored.encode()
    if all(not "\ud800" <= character <= "\udfff" for character in text):
        assert stored == text


@given(ANY, ANY)
def test_ids_that_differ_stay_different(one: str, other: str) -> None:
    name(one).encode()
    if one != other and "\\" not in one + other:
        assert name(one) != name(other)


@given(TIMES)
def test_times_keep_their_microseconds(time: datetime) -> None:
    assert moment(micros(time)) == time


@pytest.mark.parametrize(
    ("time", "expected"),
    [
        (datetime(1970, 1, 1, 23, 59, tzinfo=UTC), 0),
        (datetime(1970, 1, 2, 0, 0, tzinfo=UTC), 1),
        (datetime(1970, 1, 2, 1, 0, tzinfo=timezone(timedelta(hours=8))), 0),
    ],
)
def test_days_are_utc_days(time: datetime, expected: int) -> None:
    assert day(time) == expected
