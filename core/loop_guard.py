"""What keeps the bot out of endless talk: with a bot that answers it, and in a channel that a storm goes through.

In memory and bounded. What is counted is what gets a reply; a redelivery is given back by the caller.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from enum import StrEnum

from core.clock import Clock
from core.latest import Latest
from core.messages import AccountId, ChannelId, ConversationKey, InboundMessage

WINDOW = 60.0
"""Seconds in which messages are counted."""

PAUSE = 300.0
"""Seconds for which the bot rests in a channel after a storm."""

_REMEMBERED = 10_000
"""Texts, and channels, that are counted at the same time; the one that rested longest is forgotten first."""


class Halt(StrEnum):
    """Why a message gets no reply. The value is the notice's name."""

    REPEATED = "repeating"
    """The same text, again and again."""
    PAUSED = "channel_paused"
    """Too many messages in this channel."""


@dataclass(slots=True)
class _Count:
    times: deque[float] = field(default_factory=deque)
    """When the messages came that got a reply, at most `WINDOW` ago."""
    halted: float | None = None
    """Since when nothing more is answered."""

    def halts(self, most: int, lasting: float, now: float) -> bool:
        """Whether a message that comes now is one too many, or comes during the halt."""
        if self.halted is not None:
            if now - self.halted < lasting:
                return True
            self.halted = None
            self.times.clear()
        while self.times and now - self.times[0] >= WINDOW:
            self.times.popleft()
        return len(self.times) >= most


@dataclass(frozen=True, slots=True)
class Passage:
    """A message that came by: where it was counted, or why it was not."""

    halt: Halt | None
    counts: tuple[_Count, ...]


class LoopGuard:
    """At most so many replies to one text in a conversation, and to one channel, in a minute."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._texts: Latest[tuple[ConversationKey, int], _Count] = Latest(_REMEMBERED)
        self._channels: Latest[tuple[AccountId, ChannelId], _Count] = Latest(_REMEMBERED)

    def take(
        self, message: InboundMessage, conversation: ConversationKey, *, same_text: int | None, per_channel: int | None
    ) -> Passage:
        """Count a message that is about to be accepted. None is no bound."""
        now = self._clock.monotonic()
        counts = []
        if per_channel is not None and not message.is_direct:
            count = self._channels.of((message.account, message.channel), _Count)
            if count.halts(per_channel, PAUSE, now):
                return Passage(Halt.PAUSED, (count,))
            counts.append(count)
        if same_text is not None and message.text:
            count = self._texts.of((conversation, hash(" ".join(message.text.casefold().split()))), _Count)
            if count.halts(same_text, WINDOW, now):
                return Passage(Halt.REPEATED, (count,))
            counts.append(count)
        for count in counts:
            count.times.append(now)
        return Passage(None, tuple(counts))

    def give_back(self, passage: Passage) -> None:
        """A counted message gets no reply after all (it was a redelivery, or was refused)."""
        for count in passage.counts if passage.halt is None else ():
            if count.times:
                count.times.pop()

    def halt(self, passage: Passage) -> bool:
        """A message that was one too many is new indeed. Whether it is the first, so that its sender is told."""
        (count,) = passage.counts
        if count.halted is not None:
            return False
        count.halted = self._clock.monotonic()
        return True

    def paused(self, account: AccountId) -> dict[ChannelId, float]:
        """The channels in which the bot rests, and for how many seconds more."""
        now = self._clock.monotonic()
        return {
            channel: count.halted + PAUSE - now
            for (of, channel), count in self._channels.items()
            if of == account and count.halted is not None and now - count.halted < PAUSE
        }
