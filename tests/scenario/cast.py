"""Who talks to the bot in the authorisation matrix, how the accounts are set up, and what can happen on each platform.

Every cell of the matrix has a person and a channel of its own, so that all of them happen at once in one gateway.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from tests.contract.platform import Delivery, Feature, SimulatedPlatform
from tests.simulators.dingtalk import SimulatedDingTalk
from tests.simulators.discord import DiscordPlatform
from tests.simulators.feishu import SimulatedFeishu
from tests.simulators.feishu_state import open_id
from tests.simulators.slack import SimulatedSlack
from tests.simulators.slack_state import ELSEWHERE
from tests.simulators.wechat import SimulatedWechat
from tests.simulators.weixin import SimulatedWeixin

ROLES = ("member", "listed", "approved", "blocked", "admin", "guest", "listedguest", "external", "listedexternal")
LISTED = frozenset({"listed", "listedguest", "listedexternal"})
"""Those whose ids are in `access.allow`, where an account has that."""

SETTINGS: dict[str, dict[str, Any]] = {
    "open": {"direct": "open"},
    "listed": {"direct": "allowlist", "allow": LISTED},
    "pairing": {"direct": "pairing", "allow": LISTED},
    "off": {"direct": "off", "channels": "off", "allow": LISTED},
    "guests": {"direct": "open", "guests": "open"},
    "noguests": {"direct": "open", "guests": "off", "allow": LISTED},
    "silent": {"direct": "allowlist", "channels": "off", "refusals": "silent", "allow": LISTED},
}
"""`access` of each account; the account has the setting's name."""

KINDS = ("direct", "mention", "overheard", "edited", "command", "slash", "slashdirect", "opened", "missed")
"""A message; a mention in a channel; a message there without one, and one that is changed into one; a command, typed; a
slash command in a channel and in private; an empty conversation that is opened; a mention that nobody heard in time."""

Seen = Callable[[], Sequence[str]]
"""What can be seen of what somebody caused, by anybody."""


@dataclass(frozen=True, slots=True)
class Cell:
    """Somebody does something where an account is set up in some way."""

    setting: str
    role: str
    kind: str

    @property
    def user(self) -> str:
        return f"{self.role}{self.kind}"

    @property
    def channel(self) -> str:
        where = "voice" if self.role.endswith("guest") and self.kind == "missed" else ""  # where Discord has guests
        return f"{where}{self.setting}{self.role}{self.kind}"


def cells(platform: SimulatedPlatform) -> Iterator[Cell]:
    """All that there are on a platform. What is missed is so before the start, and on one account."""
    for setting in SETTINGS:
        for role in roles(platform):
            for kind in kinds(platform):
                if _happens(platform, setting, role, kind):
                    yield Cell(setting, role, kind)


def _happens(platform: SimulatedPlatform, setting: str, role: str, kind: str) -> bool:
    of_a_server = role.endswith("guest") and isinstance(platform, DiscordPlatform)
    if of_a_server and kind in ("direct", "command", "slashdirect"):
        return False
    return kind != "missed" or setting == "listed"


def roles(platform: SimulatedPlatform) -> Sequence[str]:
    guests = isinstance(platform, SimulatedSlack | DiscordPlatform)
    external = isinstance(platform, SimulatedSlack | SimulatedFeishu | SimulatedDingTalk)
    return [
        role for role in ROLES if (guests or not role.endswith("guest")) and (external or not role.endswith("external"))
    ]


def kinds(platform: SimulatedPlatform) -> Sequence[str]:
    lacks = {feature for feature in Feature if feature in platform.lacks}
    absent = {
        "mention": Feature.CHANNELS in lacks,
        "overheard": Feature.CHANNELS in lacks,
        "edited": bool({Feature.CHANNELS, Feature.EDITS} & lacks),
        "slash": not isinstance(platform, SimulatedSlack | DiscordPlatform),
        "slashdirect": not isinstance(platform, SimulatedSlack | DiscordPlatform),
        "opened": not isinstance(platform, SimulatedSlack),
        "missed": Feature.HISTORY in lacks,
    }
    return [kind for kind in KINDS if not absent.get(kind)]


def person_id(platform: SimulatedPlatform, cell: Cell) -> str:
    """The id under which the account knows somebody; who they are is told to the platform, too."""
    user, guest, external = cell.user, cell.role.endswith("guest"), cell.role.endswith("external")
    match platform:
        case SimulatedSlack():
            id = platform.state.user(user)
            (platform.state.guests if guest else platform.state.foreign if external else set()).add(id)
            return f"{ELSEWHERE}/{id}" if external and not cell.kind.startswith("slash") else id
        case DiscordPlatform():
            id = platform.world.user(user)
            if guest:
                platform.world.guests.add(id)
            return id
        case SimulatedFeishu():
            if external:
                platform.foreign.add(user)
            return open_id(user, platform.state.app(cell.setting))
        case SimulatedDingTalk():
            person = platform.world.person(user)
            person.outside = external
            return person.staff_id or person.sender_id
        case SimulatedWechat():
            return platform.state.bot(cell.setting).contact(user).id
        case SimulatedWeixin():
            return platform.state.bot(cell.setting).person(user).id
    raise NotImplementedError(type(platform))


async def act(platform: SimulatedPlatform, cell: Cell) -> tuple[Delivery | None, Seen]:
    """Let it happen: what the platform may acknowledge, and what can be seen of it."""
    where: dict[str, Any] = {"user": cell.user, "account": cell.setting, "channel": cell.channel}

    def seen(delivery: Delivery) -> tuple[Delivery, Seen]:
        return delivery, lambda: [shown.text for shown in platform.visible(delivery.room)]

    match cell.kind:
        case "direct":
            return seen(await platform.person_writes("hello", **where))
        case "command":
            return seen(await platform.person_writes("/help", **where))
        case "mention":
            return seen(await platform.person_writes("hello", **where, direct=False))
        case "missed":
            return seen(await platform.person_writes("hello", **where, direct=False, age=timedelta(seconds=40)))
        case "overheard":
            return seen(await platform.person_writes("hello", **where, direct=False, mention=False))
        case "edited":
            written = await platform.person_writes("hello", **where, direct=False, mention=False)
            await platform.person_edits(written, "hello, bot")
            return seen(written)
    return await _OF_ITS_OWN[type(platform)](platform, cell)


async def _on_slack(platform: Any, cell: Cell) -> tuple[Delivery | None, Seen]:
    assert isinstance(platform, SimulatedSlack)
    if cell.kind == "opened":
        room = platform.room(cell.user, "", True, cell.setting)
        thread = {"user_id": platform.state.user(cell.user), "channel_id": room.id, "thread_ts": platform.state.ts()}
        id = platform.event({"type": "assistant_thread_started", "assistant_thread": thread}, account=cell.setting)
        suggested = "assistant.threads.setSuggestedPrompts"
        return Delivery(event=id, message="", room=room.id, thread=None), lambda: [
            "suggestions"
            for method, arguments in platform.state.calls
            if method == suggested and arguments["channel_id"] == room.id
        ]
    direct = cell.kind == "slashdirect"
    given = platform.command("help", user=cell.user, channel=cell.channel, account=cell.setting, direct=direct)
    return given, lambda: [shown.text for shown in platform.visible(given.room)]


async def _on_discord(platform: Any, cell: Cell) -> tuple[Delivery | None, Seen]:
    assert isinstance(platform, DiscordPlatform)
    given = await platform.person_commands(
        "help", user=cell.user, account=cell.setting, direct=cell.kind == "slashdirect", channel=cell.channel
    )
    delivery = platform.delivery(given)
    return delivery, lambda: [*given.told_alone, *(shown.text for shown in platform.visible(delivery.room))]


_OF_ITS_OWN: dict[type, Callable[[Any, Cell], Awaitable[tuple[Delivery | None, Seen]]]] = {
    SimulatedSlack: _on_slack,
    DiscordPlatform: _on_discord,
}
