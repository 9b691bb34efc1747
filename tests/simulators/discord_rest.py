"""The simulated HTTP API v10: what it takes, what it refuses and with which code, what it remembers.

https://docs.discord.com/developers/resources/message, …/interactions/receiving-and-responding,
…/topics/rate-limits, …/topics/opcodes-and-status-codes#json
"""

from __future__ import annotations

import json
import re
import time
from collections import defaultdict, deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web

from tests.simulators.discord_gateway import Gateway
from tests.simulators.discord_world import (
    DM,
    EPHEMERAL,
    GUILD,
    IS_GUEST,
    MESSAGE_CONTENT,
    PUBLIC_THREAD,
    THINKING,
    Bot,
    Channel,
    Post,
    World,
    person,
)

LONGEST = 2000
LONGEST_NONCE = 25
NONCE_WINDOW = 180.0
"""Seconds; Discord says "the past few minutes"."""


class Refusal(Exception):
    """An error as Discord answers it."""

    def __init__(self, status: int, code: int, message: str, errors: Any = None) -> None:
        super().__init__(message)
        self.status = status
        self.body = {"message": message, "code": code} | ({"errors": errors} if errors else {})


@dataclass
class Interaction:
    """A slash command that somebody gave."""

    id: str
    token: str
    bot: Bot
    channel: Channel
    user: str
    name: str
    at: float = field(default_factory=time.monotonic)
    answered: int | None = None
    """The kind of the first answer."""
    original: Post | None = None
    ephemeral: list[str] = field(default_factory=list)
    """What its person alone was told, but for what took the place of the command's own answer; names of files too."""

    @property
    def told_alone(self) -> list[str]:
        """Everything that its person alone sees."""
        post = self.original
        hidden = post is not None and post.data["flags"] & EPHEMERAL and not post.data["flags"] & THINKING
        return [*([post.data["content"]] if post is not None and hidden else []), *self.ephemeral]


@dataclass
class Fault:
    """What becomes of the next calls of a kind."""

    status: int = 0
    """0: the connection breaks."""
    after: bool = False
    """After it took effect."""


Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class Rest:
    """Mount `routes`; `faults` by kind of call (`create`, `edit`, `follow`, `typing`, `callback`, `thread`, `history`, `any`)."""

    def __init__(self, world: World, gateway: Gateway) -> None:
        self.world = world
        self.gateway = gateway
        self.limit, self.window = 5, 0.5
        """Creations (and edits) in a channel within so many seconds; really 5 in 5 s."""
        self.answer_within = 3.0
        """Seconds for the first answer to a slash command."""
        self.token_lifetime = 900.0
        """Seconds for which a slash command can be answered."""
        self.faults: dict[str, deque[Fault]] = defaultdict(deque)
        self.calls: list[tuple[str, str]] = []
        self.interactions: dict[str, Interaction] = {}
        self.pause_until = 0.0
        self.limited = 0
        self.pause = 0.0
        self.expired_links = False
        self._buckets: dict[str, deque[float]] = defaultdict(deque)
        self._nonces: dict[tuple[str, str], Post] = {}
        """The last message of each bot and nonce."""

    def routes(self) -> list[web.RouteDef]:
        """All under /api/v10, and the files."""
        api, channel, hook = "/api/v10", "/api/v10/channels/{channel}", "/api/v10/webhooks/{application}/{token}"
        return [
            web.get(f"{api}/users/@me", self._wrap("any", self._me)),
            web.get(f"{api}/users/@me/guilds", self._wrap("any", self._guilds)),
            web.get(f"{api}/oauth2/applications/@me", self._wrap("any", self._application)),
            web.get(f"{api}/gateway/bot", self._wrap("any", self._gateway)),
            web.get(f"{api}/guilds/{{guild}}/members/{{user}}", self._wrap("any", self._member)),
            web.get(channel, self._wrap("any", self._channel)),
            web.post(f"{channel}/typing", self._wrap("typing", self._typing)),
            web.get(f"{channel}/messages", self._wrap("history", self._history)),
            web.get(f"{channel}/messages/{{message}}", self._wrap("history", self._one)),
            web.post(f"{channel}/messages", self._wrap("create", self._create)),
            web.patch(f"{channel}/messages/{{message}}", self._wrap("edit", self._edit)),
            web.post(f"{channel}/messages/{{message}}/threads", self._wrap("thread", self._open_thread)),
            web.post(f"{api}/interactions/{{interaction}}/{{token}}/callback", self._wrap("callback", self._callback)),
            web.get(f"{hook}/messages/{{message}}", self._wrap("history", self._hooked)),
            web.patch(f"{hook}/messages/{{message}}", self._wrap("edit", self._edit_hooked)),
            web.post(hook, self._wrap("follow", self._follow_up)),
            web.get(f"{api}/applications/{{application}}/commands", self._wrap("any", self._commands)),
            web.post(f"{api}/applications/{{application}}/commands", self._wrap("any", self._add_command)),
            web.get("/attachments/{channel}/{id}/{name}", self._file),
        ]

    # Around every call

    def _wrap(self, kind: str, handler: Callable[[web.Request, Bot], Awaitable[Any]]) -> Handler:
        async def handle(request: web.Request) -> web.StreamResponse:
            self.calls.append((kind, f"{request.method} {request.path}"))
            bot = self.world.by_token(request.headers.get("Authorization", "").removeprefix("Bot "))
            if bot is None and "Authorization" not in request.headers:  # a command's own token is enough to answer it
                tokens = {each.token: each.bot for each in self.interactions.values()}
                bot = tokens.get(request.match_info.get("token", ""))
            if bot is None:
                return _json(401, {"message": "401: Unauthorized", "code": 0})
            if not re.match(r"DiscordBot \(", request.headers.get("User-Agent", "")):
                self.world.complaints.append("a call without the User-Agent that Discord asks for")
            if (refusal := self._too_fast(kind)) is not None:
                return refusal
            fault = self.faults[kind].popleft() if self.faults[kind] else None
            if fault is not None and not fault.after:
                return await self._break(request, fault)
            try:
                answer = await handler(request, bot)
            except Refusal as refused:
                return _json(refused.status, refused.body)
            if fault is not None:
                return await self._break(request, fault)
            place = request.match_info.get("channel") or request.match_info.get("token", "")  # a webhook's is its own
            headers = self._bucket(kind, place)
            if isinstance(headers, web.Response):
                self.world.complaints.append(f"{request.method} {request.path} went over its rate limit")
                return headers
            return _json(200, answer, headers) if answer is not None else web.Response(status=204, headers=headers)

        return handle

    def _too_fast(self, kind: str) -> web.Response | None:
        """The scripted rate limit."""
        if kind not in ("create", "edit"):
            return None
        now = time.monotonic()
        if now < self.pause_until - 0.01:
            self.world.complaints.append(f"a {kind} {self.pause_until - now:.3f} s before the pause was over")
        if self.limited <= 0:
            return None
        self.limited -= 1
        self.pause_until = time.monotonic() + self.pause
        return _slow_down(self.pause)

    def _bucket(self, kind: str, channel: str) -> dict[str, str] | web.Response:
        if kind not in ("create", "edit"):
            return {}
        now, used = time.monotonic(), self._buckets[f"{kind}:{channel}"]
        while used and now - used[0] > self.window:
            used.popleft()
        if len(used) >= self.limit:
            return _slow_down(self.window - (now - used[0]))
        used.append(now)
        return {
            "X-RateLimit-Limit": str(self.limit),
            "X-RateLimit-Remaining": str(self.limit - len(used)),
            "X-RateLimit-Reset": f"{time.time() + self.window:.3f}",  # Discord's wall clock
            "X-RateLimit-Reset-After": f"{self.window - (now - used[0]):.3f}",
            "X-RateLimit-Bucket": f"bucket-of-{kind}",
        }

    async def _break(self, request: web.Request, fault: Fault) -> web.Response:
        if fault.status:
            return web.Response(
                status=fault.status, text="<html>upstream connect error</html>", content_type="text/html"
            )
        if request.transport is not None:
            request.transport.abort()
        return web.Response()

    def _place(self, request: web.Request, bot: Bot) -> Channel:
        channel = self.world.channels.get(request.match_info["channel"])
        if channel is None or channel.gone:
            raise Refusal(404, 10003, "Unknown Channel")
        if channel.forbidden or (channel.type == DM and channel.bot != bot.name):
            raise Refusal(403, 50001, "Missing Access")
        return channel

    # The account

    async def _me(self, request: web.Request, bot: Bot) -> Any:
        return bot.as_user() | {"verified": True, "mfa_enabled": False, "flags": 0, "locale": "en-US", "email": None}

    async def _guilds(self, request: web.Request, bot: Bot) -> Any:
        return [{"id": GUILD, "name": "The Server", "permissions": str(bot.permissions)}] if bot.in_guild else []

    async def _application(self, request: web.Request, bot: Bot) -> Any:
        return {
            "id": bot.application,
            "name": bot.name,
            "icon": None,
            "description": "",
            "bot_public": True,
            "bot_require_code_grant": False,
            "verify_key": "00",
            "team": None,
            "flags": bot.flags,
            "interactions_endpoint_url": bot.interactions_endpoint_url,
            "owner": {"id": "1", "username": "owner", "discriminator": "0", "avatar": None},
        }

    async def _gateway(self, request: web.Request, bot: Bot) -> Any:
        return {
            "url": f"ws://{request.host}/gateway/{bot.name}",
            "shards": 1,
            "session_start_limit": {
                "total": 1000,
                "remaining": max(0, bot.remaining),
                "reset_after": 3_600_000,
                "max_concurrency": 1,
            },
        }

    async def _commands(self, request: web.Request, bot: Bot) -> Any:
        return list(bot.commands.values())

    async def _add_command(self, request: web.Request, bot: Bot) -> Any:
        command = await request.json()
        if not re.fullmatch(r"[-_\w]{1,32}", command.get("name", "")) or not 1 <= len(command["description"]) <= 100:
            raise Refusal(400, 50035, "Invalid Form Body", {"name": {"_errors": [{"code": "BASE_TYPE_BAD_LENGTH"}]}})
        for option in command.get("options", []):
            if not 1 <= len(option["description"]) <= 100:
                raise Refusal(400, 50035, "Invalid Form Body")
            if option.get("required") is False:
                del option["required"]  # Discord leaves out what is false
        bot.command_changes += 1
        known = {"id": self.world.ids.new(), "application_id": bot.application, "version": self.world.ids.new()}
        bot.commands[command["name"]] = known | {"default_member_permissions": None, "nsfw": False} | command
        return bot.commands[command["name"]]

    # Messages

    async def _channel(self, request: web.Request, bot: Bot) -> Any:
        return self._place(request, bot).as_data()

    async def _typing(self, request: web.Request, bot: Bot) -> Any:
        self._place(request, bot)

    async def _member(self, request: web.Request, bot: Bot) -> Any:
        user = request.match_info["user"]
        name = next((name for name, id in self.world.people.items() if id == user), None)
        if name is None:
            raise Refusal(404, 10007, "Unknown Member")
        return {"user": person(user, name), "roles": [], "flags": IS_GUEST if user in self.world.guests else 0}

    async def _history(self, request: web.Request, bot: Bot) -> Any:
        channel = self._place(request, bot)
        limit = int(request.query.get("limit", 50))
        if not 1 <= limit <= 100:
            raise Refusal(400, 50035, "Invalid Form Body")
        posts = channel.living()
        if "after" in request.query:
            posts = [post for post in posts if int(post.id) > int(request.query["after"])][:limit]
        elif "before" in request.query:
            posts = [post for post in posts if int(post.id) < int(request.query["before"])][-limit:]
        else:
            posts = posts[-limit:]
        return [self._shown(bot, channel, post) for post in reversed(posts)]

    async def _one(self, request: web.Request, bot: Bot) -> Any:
        channel = self._place(request, bot)
        return self._shown(bot, channel, _living(channel, request.match_info["message"]))

    def _shown(self, bot: Bot, channel: Channel, post: Post) -> dict[str, Any]:
        """As the history has it: without the nonce, and with links to files that are fresh."""
        data = self.world.seen_by(bot, channel, post.data, bot.allowed & MESSAGE_CONTENT)
        fresh = [item | {"url": re.sub(r"ex=\d+", "ex=2", item["url"])} for item in data["attachments"]]
        return data | {"attachments": fresh}

    async def _create(self, request: web.Request, bot: Bot) -> Any:
        channel = self._place(request, bot)
        body, files = await _read(request)
        if channel.locked:
            raise Refusal(403, 50083, "Thread is archived")
        nonce = body.get("nonce")
        if nonce is not None and len(str(nonce)) > LONGEST_NONCE:
            raise Refusal(400, 50035, "Invalid Form Body", {"nonce": {"_errors": [{"code": "BASE_TYPE_BAD_LENGTH"}]}})
        if nonce is not None and body.get("enforce_nonce"):
            earlier = self._nonces.get((bot.user, str(nonce)))
            if earlier is not None and time.monotonic() - earlier.at < NONCE_WINDOW:
                if earlier.removed:
                    raise Refusal(404, 10008, "Unknown Message")
                return earlier.data | {"nonce": nonce}
        reference = body.get("message_reference")
        if reference is not None and reference["message_id"] not in {post.id for post in channel.living()}:
            if reference.get("fail_if_not_exists", True):
                raise Refusal(
                    400, 50035, "Invalid Form Body", {"message_reference": "MESSAGE_REFERENCE_UNKNOWN_MESSAGE"}
                )
            reference = None
        post = await self._publish(channel, bot, body, files, answers=reference and reference["message_id"])
        post.nonce = nonce
        if nonce is not None:
            self._nonces[bot.user, str(nonce)] = post
        return post.data | {"nonce": nonce}

    async def _publish(
        self, channel: Channel, bot: Bot, body: dict[str, Any], files: dict[str, bytes], *, answers: str | None = None
    ) -> Post:
        self._check(body.get("content"), files)
        post = self.world.post(channel, bot.as_user(), body.get("content") or "")
        if answers is not None:
            post.data |= {"type": 19, "message_reference": {"type": 0, "channel_id": channel.id, "message_id": answers}}
        for name, content in files.items():
            post.data["attachments"].append({"id": self.world.ids.new(), "filename": name, "size": len(content)})
        self._ping(post, channel, body, answers)
        await self.gateway.dispatch_message("MESSAGE_CREATE", channel, dict(post.data))
        return post

    def _check(self, content: Any, files: dict[str, bytes]) -> None:
        if content is not None and len(content) > LONGEST:
            self.world.complaints.append(f"a message of {len(content)} characters")
            error = {"code": "BASE_TYPE_MAX_LENGTH", "message": "Must be 2000 or fewer in length."}
            raise Refusal(400, 50035, "Invalid Form Body", {"content": {"_errors": [error]}})
        if not (content or "").strip() and not files:
            self.world.complaints.append("an empty message")
            raise Refusal(400, 50006, "Cannot send an empty message")

    def _ping(self, post: Post, channel: Channel, body: dict[str, Any], answers: str | None = None) -> None:
        """Who is notified: everybody that the text names, unless allowed_mentions says otherwise."""
        allowed = body.get("allowed_mentions")
        kinds = ("everyone", "users", "roles") if allowed is None else allowed.get("parse", ())
        text = post.data["content"]
        post.pinged |= "everyone" in kinds and re.search(r"@(everyone|here)\b", text) is not None
        post.pinged |= "users" in kinds and re.search(r"<@!?\d+>", text) is not None
        post.pinged |= "roles" in kinds and re.search(r"<@&\d+>", text) is not None
        if answers is not None and answers in channel.posts:
            post.pinged |= (allowed or {}).get("replied_user", allowed is None)

    async def _edit(self, request: web.Request, bot: Bot) -> Any:
        channel = self._place(request, bot)
        post = _living(channel, request.match_info["message"])
        if post.author != bot.user:
            raise Refusal(403, 50005, "Cannot edit a message authored by another user")
        return await self._change(channel, post, (await _read(request))[0])

    async def _change(self, channel: Channel, post: Post, body: dict[str, Any]) -> Any:
        self._check(body.get("content"), {})
        post.data["content"] = body["content"]
        post.data["flags"] &= ~THINKING
        post.data["edited_timestamp"] = post.data["timestamp"]
        post.versions.append(body["content"])
        self._ping(post, channel, body)
        await self.gateway.dispatch_message("MESSAGE_UPDATE", channel, dict(post.data))
        return post.data

    async def _open_thread(self, request: web.Request, bot: Bot) -> Any:
        channel = self._place(request, bot)
        body, _ = await _read(request)
        post = _living(channel, request.match_info["message"])
        if channel.type == PUBLIC_THREAD or channel.type == DM:
            raise Refusal(400, 50024, "Cannot execute action on this channel type")
        if post.id in self.world.channels:
            raise Refusal(400, 160004, "A thread has already been created for this message")
        if not 1 <= len(body.get("name", "")) <= 100:
            raise Refusal(400, 50035, "Invalid Form Body")
        thread = self.world.thread(channel, post.id, body["name"], bot.user)
        for each in list(self.world.bots.values()):
            await self.gateway.dispatch(each, "THREAD_CREATE", thread.as_data() | {"newly_created": True})
        return thread.as_data()

    # Slash commands

    async def _callback(self, request: web.Request, bot: Bot) -> Any:
        interaction = self.interactions.get(request.match_info["interaction"])
        late = interaction is not None and time.monotonic() - interaction.at > self.answer_within
        if interaction is None or interaction.token != request.match_info["token"] or late:
            raise Refusal(404, 10062, "Unknown interaction")
        if interaction.answered is not None:
            raise Refusal(400, 40060, "Interaction has already been acknowledged.")
        body, _ = await _read(request)
        interaction.answered = body["type"]
        data = body.get("data", {})
        if body["type"] == 4 and data.get("flags", 0) & 64:
            interaction.ephemeral.append(data["content"])
        else:
            post = self.world.post(interaction.channel, bot.as_user(), data.get("content", ""))
            flags = data.get("flags", 0) & EPHEMERAL | (THINKING if body["type"] == 5 else 0)
            post.data |= {"flags": flags, "type": 20, "webhook_id": bot.application}
            post.data["interaction_metadata"] = {
                "id": interaction.id,
                "type": 2,
                "user": person(interaction.user, "somebody"),
                "authorizing_integration_owners": {},
            }
            post.versions.clear()
            post.cause = interaction.id
            interaction.original = post

    def _interaction(self, request: web.Request) -> Interaction:
        for interaction in self.interactions.values():
            if interaction.token == request.match_info["token"] and interaction.answered is not None:
                if time.monotonic() - interaction.at > self.token_lifetime:
                    raise Refusal(401, 50027, "Invalid Webhook Token")
                return interaction
        raise Refusal(404, 10015, "Unknown Webhook")

    def _hooked_post(self, request: web.Request, interaction: Interaction) -> Post:
        id = request.match_info["message"]
        if id == "@original":
            if interaction.original is None:
                raise Refusal(404, 10008, "Unknown Message")
            return interaction.original
        post = _living(interaction.channel, id)
        if post.cause != interaction.id:
            raise Refusal(404, 10008, "Unknown Message")
        return post

    async def _hooked(self, request: web.Request, bot: Bot) -> Any:
        return self._hooked_post(request, self._interaction(request)).data

    async def _edit_hooked(self, request: web.Request, bot: Bot) -> Any:
        interaction = self._interaction(request)
        body, _ = await _read(request)
        return await self._change(interaction.channel, self._hooked_post(request, interaction), body)

    async def _follow_up(self, request: web.Request, bot: Bot) -> Any:
        interaction = self._interaction(request)
        body, files = await _read(request)
        if body.get("flags", 0) & EPHEMERAL:
            self._check(body.get("content"), files)
            interaction.ephemeral.extend([body.get("content") or "", *files])
            hidden = self.world.post(interaction.channel, bot.as_user(), body.get("content") or "")
            hidden.data["flags"] = EPHEMERAL
            return hidden.data
        post = await self._publish(interaction.channel, bot, body, files)
        post.cause = interaction.id
        return post.data

    # Files

    async def _file(self, request: web.Request) -> web.StreamResponse:
        id, expiry = request.match_info["id"], int(request.query.get("ex", "0"))
        if id not in self.world.files or (self.expired_links and expiry < 2):
            return web.Response(status=404, text="This content is no longer available.")
        content, media_type = self.world.files[id]
        return web.Response(body=content, headers={"Content-Type": media_type})


def _living(channel: Channel, id: str) -> Post:
    post = channel.posts.get(id)
    if post is None or post.removed:
        raise Refusal(404, 10008, "Unknown Message")
    return post


async def _read(request: web.Request) -> tuple[dict[str, Any], dict[str, bytes]]:
    """The JSON of a call, and the files that came with it."""
    if request.content_type != "multipart/form-data":
        return (await request.json() if request.can_read_body else {}), {}
    body: dict[str, Any] = {}
    files: dict[str, bytes] = {}
    form = await request.post()
    for name, value in form.items():
        if name == "payload_json":
            body = json.loads(value.decode() if isinstance(value, bytearray) else str(value))
        elif isinstance(value, web.FileField):
            files[value.filename] = value.file.read()
    return body, files


def _json(status: int, body: Any, headers: dict[str, str] | None = None) -> web.Response:
    """The type must be exactly this, without a charset: discord.py takes anything else for text."""
    return web.Response(
        status=status, body=json.dumps(body).encode(), headers={"Content-Type": "application/json", **(headers or {})}
    )


def _slow_down(seconds: float) -> web.Response:
    """A 429 of Discord's own; without Via it would be one of Cloudflare's."""
    body = {"message": "You are being rate limited.", "retry_after": seconds, "global": False}
    headers = {"Via": "1.1 google", "Retry-After": f"{seconds:.3f}", "X-RateLimit-Scope": "user"}
    return _json(429, body, headers)
