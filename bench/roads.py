"""The roads that a message may take, and how each is set up on its simulated platform."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True, kw_only=True)
class Road:
    """One way from a person to the answer."""

    name: str
    title: str
    platform: str
    simulator: dict[str, Any] = field(default_factory=dict)
    """Arguments of the simulator."""
    accounts: int = 1
    """Bots. Where a platform lets one bot make so many calls a second only, several are needed to keep a machine busy."""
    direct: bool = True
    """Everybody writes to the bot directly; else everybody in a channel of their own, with a mention."""
    bare: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """Bare scripts to compare with, and the packages that each needs; the first one is the least there can be."""

    @property
    def bots(self) -> list[str]:
        """The names of the accounts."""
        return [f"bot{number}" for number in range(self.accounts)]


ROADS = {
    road.name: road
    for road in (
        Road(
            name="slack-http",
            title="Slack, HTTP events → chat.postMessage",
            platform="slack",
            simulator={"mode": "http"},
            bare={"bolt": ("slack_bolt",), "bolt_openai": ("slack_bolt", "openai")},
        ),
        Road(
            name="slack-socket",
            title="Slack, Socket Mode → native stream",
            platform="slack",
            simulator={"mode": "socket"},
            direct=False,
        ),
        Road(name="discord", title="Discord, gateway → message, edits", platform="discord"),
        Road(name="feishu", title="Feishu, long connection → card", platform="feishu", accounts=10),
    )
}
