"""The gateway with Slack's reply channels broken on purpose: what the harness for kills must notice.

`python -m tests.scenario.broken_slack FAULT run --config F`.
"""

from __future__ import annotations

import sys

from adapters.slack.address import Address, ts_of
from adapters.slack.workspace import Workspace
from core.markdown.dialects.slack import SLACK_MARKDOWN
from core.messages import MessageId


async def _nothing(self: Workspace, address: Address) -> None:
    """Leaves what a dead process began."""


async def _only_the_first(self: Workspace, address: Address, message: MessageId, text: str) -> None:
    """Does not ask what else there is of the answer."""
    await self.update(address.channel, ts_of(message), SLACK_MARKDOWN.render(text), "")


def main() -> None:
    match sys.argv.pop(1):
        case "leftovers":
            Workspace.remove_lost_streams = _nothing  # type: ignore[method-assign]  # broken on purpose
            Workspace.replace = _only_the_first  # type: ignore[method-assign]  # broken on purpose
        case fault:
            raise SystemExit(f"no such fault: {fault}")
    from gateway.__main__ import main as run

    run()


if __name__ == "__main__":
    main()
