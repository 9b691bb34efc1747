"""What people see on a simulated platform, without looking at all of it each time: a call is told of, one room is read.

`tests/contract/platform.py` has the whole view, which costs more than a measurement may.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import replace
from itertools import islice
from typing import Any

from tests.contract.platform import SimulatedPlatform
from tests.simulators.discord import DiscordPlatform
from tests.simulators.discord_rest import Rest
from tests.simulators.discord_world import Bot, Channel, Post
from tests.simulators.feishu import SimulatedFeishu
from tests.simulators.feishu_rest import Api, Call
from tests.simulators.slack import SimulatedSlack
from tests.simulators.slack_state import SlackApp
from tests.simulators.slack_web import SlackWebApi

Seen = Callable[[str], None]
"""Told the room in which something new can be seen."""

_NEWEST = 4
"""Messages of a room that are looked at: an answer and what came right before it."""


class View(ABC):
    """One simulated platform, and whoever wants to know when something is to be seen."""

    platform: SimulatedPlatform

    @abstractmethod
    def room(self, person: str, account: str, *, direct: bool) -> str:
        """Where a person writes."""

    @abstractmethod
    def newest(self, room: str) -> list[str]:
        """The texts of the bots' newest messages there, as they are on the wire, newest first."""

    @abstractmethod
    def shown(self, room: str) -> int:
        """How many messages the bots have shown there."""


class _SlackApi(SlackWebApi):
    seen: Seen

    async def _run(self, app: SlackApp, method: str, arguments: dict[str, Any]) -> dict[str, Any]:
        result = await super()._run(app, method, arguments)
        if method.startswith("chat."):
            self.seen(str(arguments.get("channel")))
        return result


class SlackView(View):
    """Messages, and streams as far as they are."""

    def __init__(self, seen: Seen, **options: Any) -> None:
        self.platform = self._slack = SimulatedSlack(**options)
        self._slack.api = api = _SlackApi(self._slack.state, ticket=self._slack.delivery.ticket)
        api.seen = seen

    def room(self, person: str, account: str, *, direct: bool) -> str:
        return self._slack.room(person, place_of(person), direct, account).id

    def newest(self, room: str) -> list[str]:
        messages = reversed(self._slack.state.channels[room].messages)
        return list(islice((each.text for each in messages if each.app is not None), _NEWEST))

    def shown(self, room: str) -> int:
        return sum(each.app is not None for each in self._slack.state.channels[room].messages)


class _DiscordRest(Rest):
    seen: Seen

    async def _publish(
        self, channel: Channel, bot: Bot, body: dict[str, Any], files: dict[str, bytes], *, answers: str | None = None
    ) -> Post:
        post = await super()._publish(channel, bot, body, files, answers=answers)
        self.seen(channel.id)
        return post

    async def _change(self, channel: Channel, post: Post, body: dict[str, Any]) -> Any:
        result = await super()._change(channel, post, body)
        self.seen(channel.id)
        return result


class DiscordView(View):
    """Messages and their edits."""

    def __init__(self, seen: Seen, **options: Any) -> None:
        self.platform = self._discord = DiscordPlatform(**options)
        self._discord.rest = rest = _DiscordRest(self._discord.world, self._discord.gateway)
        rest.seen = seen

    def room(self, person: str, account: str, *, direct: bool) -> str:
        world = self._discord.world
        if direct:
            return world.direct(world.user(person), world.bot(account)).id
        return world.channel(place_of(person)).id

    def newest(self, room: str) -> list[str]:
        posts = reversed(self._discord.world.channels[room].posts.values())
        return list(islice((each.data["content"] for each in posts if self._is_bots(each)), _NEWEST))

    def shown(self, room: str) -> int:
        return sum(map(self._is_bots, self._discord.world.channels[room].posts.values()))

    def _is_bots(self, post: Post) -> bool:
        return bool(post.data["author"]["bot"])


class FeishuView(View):
    """Messages, and the text of cards."""

    def __init__(self, seen: Seen, **options: Any) -> None:
        self.platform = self._feishu = SimulatedFeishu(**options)
        self._seen = seen
        api = self._feishu.api
        api.apis = [self._watched(each) for each in api.apis]

    def _watched(self, api: Api) -> Api:
        if not api.name.startswith(("im.v1.message.", "cardkit.v1.card")):
            return api

        async def handle(call: Call) -> Any:
            result = await api.handler(call)
            self._shown_by(call.path, result)
            return result

        return replace(api, handler=handle)

    def _shown_by(self, path: Mapping[str, str], result: Any) -> None:
        state = self._feishu.state
        if isinstance(result, Mapping) and "chat_id" in result:  # a new message
            self._seen(str(result["chat_id"]))
            return
        message = state.messages.get(path.get("message", ""))
        if message is None and (card := state.cards.get(path.get("card", ""))) is not None:
            message = card.message
        if message is not None:
            self._seen(message.chat.id)

    def room(self, person: str, account: str, *, direct: bool) -> str:
        return self._feishu.room(person, place_of(person), direct, account).id

    def newest(self, room: str) -> list[str]:
        messages = reversed(self._feishu.state.chats[room].messages)
        return list(islice((each.versions[-1] for each in messages if each.app and each.versions), _NEWEST))

    def shown(self, room: str) -> int:
        return sum(each.app is not None and bool(each.versions) for each in self._feishu.state.chats[room].messages)


def place_of(person: str) -> str:
    """The channel that a person has alone, where people write in channels."""
    return f"room-{person}"


VIEWS: dict[str, Callable[..., View]] = {"slack": SlackView, "discord": DiscordView, "feishu": FeishuView}
