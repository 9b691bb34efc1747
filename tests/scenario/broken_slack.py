"""Slack's reply channels broken on purpose (tests/scenario/breaking.py)."""

from __future__ import annotations

from adapters.slack.address import Address, ts_of
from adapters.slack.workspace import Workspace
from core.markdown.dialects.slack import SLACK_MARKDOWN
from core.messages import MessageId
from tests.scenario.breaking import run


async def _nothing(self: Workspace, address: Address) -> None:
    """Leaves what a dead process began."""


async def _only_the_first(self: Workspace, address: Address, message: MessageId, text: str) -> None:
    """Does not ask what else there is of the answer."""
    await self.update(address.channel, ts_of(message), SLACK_MARKDOWN.render(text), "")


def leftovers() -> None:
    """What a dead process began stays."""
    Workspace.remove_lost_streams = _nothing  # type: ignore[method-assign]  # broken on purpose
    Workspace.replace = _only_the_first  # type: ignore[method-assign]  # broken on purpose


if __name__ == "__main__":
    run(leftovers)
