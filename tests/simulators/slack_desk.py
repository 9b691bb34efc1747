"""A signed-in Slack adapter without the gateway around it, for looking at its reply channels."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

from adapters.slack.adapter import WebhookAdapter
from adapters.slack.address import Address
from adapters.slack.config import Config
from adapters.slack.reply import FoundThreadReply, SlackReply
from core.adapter import IdempotencyKey
from core.clock import Clock
from core.messages import AccountId
from tests.simulators.slack import SimulatedSlack
from tests.simulators.slack_state import TEAM, SlackChannel, SlackMessage

KEY = IdempotencyKey("turn1-0")


@dataclass
class Desk:
    """One question in a channel, and the adapter that is to answer it."""

    slack: SimulatedSlack
    adapter: WebhookAdapter
    question: SlackMessage
    room: SlackChannel

    def reply(self, *, adapter: WebhookAdapter | None = None) -> FoundThreadReply:
        """The way back to the question."""
        reply = (adapter or self.adapter).reply(self.address.dump())
        assert isinstance(reply, FoundThreadReply)
        return reply

    @property
    def address(self) -> Address:
        return Address(
            channel=self.room.id, thread=self.question.ts, after=self.question.ts, user=self.question.user, team=TEAM
        )

    def elsewhere(self, **changes: str) -> SlackReply:
        """The way back to another place."""
        from dataclasses import replace

        reply = self.adapter.reply(replace(self.address, **changes).dump())  # type: ignore[arg-type]  # texts alone
        assert isinstance(reply, SlackReply)
        return reply

    @property
    def shown(self) -> list[SlackMessage]:
        """What the bot has put up."""
        return [message for message in self.room.messages if message.app is not None]

    def calls(self, *methods: str) -> list[str]:
        """The calls of these methods so far, in order."""
        return [method for method, _ in self.slack.state.calls if not methods or method in methods]


def adapter_for(slack: SimulatedSlack, *, clock: Clock | None = None) -> WebhookAdapter:
    """An adapter of the account `bot`, not entered yet."""
    return WebhookAdapter(AccountId("bot"), Config(**slack.account()), clock=clock)


@asynccontextmanager
async def desk(slack: SimulatedSlack, *, clock: Clock | None = None) -> AsyncIterator[Desk]:
    """`slack` is entered; the question was asked a moment after the adapter was made."""
    adapter = adapter_for(slack, clock=clock)
    room = slack.state.channel("general")
    question = SlackMessage(slack.state.ts(), room.id, slack.state.user("ann"), "how?")
    room.messages.append(question)
    async with adapter:
        yield Desk(slack, adapter, question, room)
