"""A conversation's key holds every part of its identity, and no id can imitate another."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.messages import (
    AccountId,
    ChannelId,
    ConversationKey,
    EventId,
    InboundMessage,
    MessageId,
    ReplyAddress,
    Scope,
    Sender,
    ThreadId,
    UserId,
)

# Whatever JSON can bring, half surrogate pairs included.
IDS = st.text(st.characters(), max_size=12) | st.sampled_from(["", "/", "u:x", "a/u:b", "%", "%2F", "\ud800", "é", "."])


def message(*, user: str = "ann", channel: str = "town", thread: str | None = None) -> InboundMessage:
    return InboundMessage(
        id=MessageId("1"),
        event=EventId("1"),
        account=AccountId("work"),
        sender=Sender(id=UserId(user)),
        channel=ChannelId(channel),
        thread=None if thread is None else ThreadId(thread),
        is_direct=False,
        mentions_bot=True,
        text="hello",
        sent_at=datetime(2026, 11, 2, tzinfo=UTC),
        reply_to=ReplyAddress("{}"),
    )


@pytest.mark.parametrize(
    ("scope", "key"),
    [
        (Scope.USER, "work/u:ann"),
        (Scope.USER_IN_CHANNEL, "work/u:ann/c:town"),
        (Scope.THREAD, "work/c:town/t:t1"),
        (Scope.CHANNEL, "work/c:town"),
    ],
)
def test_a_scope_picks_the_parts_of_the_key(scope: Scope, key: str) -> None:
    assert str(ConversationKey.of(message(thread="t1"), scope)) == key


def test_outside_a_thread_the_thread_scope_is_the_channel() -> None:
    assert ConversationKey.of(message(), Scope.THREAD) == ConversationKey.of(message(), Scope.CHANNEL)


KEYS = st.builds(
    ConversationKey,
    IDS.filter(bool).map(AccountId),
    user=st.none() | IDS.map(UserId),
    channel=st.none() | IDS.map(ChannelId),
    thread=st.none() | IDS.map(ThreadId),
)


@given(KEYS)
def test_a_key_reads_back_what_it_wrote(key: ConversationKey) -> None:
    assert ConversationKey.parse(str(key)) == key
    assert str(key).isascii()


@given(KEYS, KEYS)
def test_two_keys_look_alike_only_if_they_are_the_same(one: ConversationKey, other: ConversationKey) -> None:
    assert (str(one) == str(other)) == (one == other) == (hash(one) == hash(other) and one == other)


@pytest.mark.parametrize("text", ["", "/u:x", "a/x:1", "a/u", "a/u:1/u:2", "a/c:1/u:2", "a/u:ü", "a/u:%zz", "a/"])
def test_anything_else_is_no_key(text: str) -> None:
    with pytest.raises(ValueError, match="not a conversation key"):
        ConversationKey.parse(text)
