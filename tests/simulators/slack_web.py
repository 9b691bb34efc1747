"""Slack's Web API as documented at https://docs.slack.dev/reference/methods: errors are HTTP 200 with `ok: false`, each
method takes its arguments in its own encoding, posts are limited per channel, and nothing is sent twice by itself."""

from __future__ import annotations

import asyncio
import json
import math
import time
from collections import defaultdict
from collections.abc import Awaitable, Callable
from typing import Any

from aiohttp import web

from tests.simulators.faults import Fault, Lost, befalls
from tests.simulators.slack_state import ELSEWHERE, TEAM, SlackApp, SlackChannel, SlackMessage, SlackState

# How the SDK sends each method; a server that is lenient here would hide a wrong call.
_JSON = frozenset(
    (
        "chat.postMessage",
        "chat.postEphemeral",
        "chat.update",
        "chat.startStream",
        "chat.appendStream",
        "chat.stopStream",
        "assistant.threads.setStatus",
        "assistant.threads.setSuggestedPrompts",
    )
)
_QUERY = frozenset(
    (
        "auth.test",
        "chat.delete",
        "assistant.threads.setTitle",
        "apps.connections.open",
        "files.getUploadURLExternal",
        "files.completeUploadExternal",
    )
)
_GET = frozenset(
    (
        "users.info",
        "users.conversations",
        "conversations.info",
        "conversations.history",
        "conversations.replies",
        "files.info",
        "bots.info",
    )
)
_SHOWING = ("chat.postMessage", "chat.update", "chat.startStream", "chat.appendStream", "chat.stopStream")
_NEW = ("chat.postMessage", "chat.startStream")
MARKDOWN_LIMIT = 12_000
UPDATE_LIMIT = 4_000


class Refused(Exception):
    """`ok: false`."""

    def __init__(self, error: str, **more: Any) -> None:
        super().__init__(error)
        self.error = error
        self.more = more


Handler = Callable[[SlackApp, dict[str, Any]], Awaitable[dict[str, Any]]]


class SlackWebApi:
    """Add its routes to a server."""

    def __init__(self, state: SlackState, *, ticket: Callable[[SlackApp], str]) -> None:
        self.state = state
        self.faults: list[Fault] = []
        """Other kinds are errors of Slack's."""
        self.stream_lasts = 300.0
        """Seconds."""
        self.limits_posts = True
        self.known_methods: set[str] = {*_JSON, *_QUERY, *_GET}
        self.closed_methods: dict[str, str] = {}
        """Methods that this kind of app or workspace has not, and the error that says so."""
        """Take one away to be a server that does not know it."""
        self.base = ""
        self.posted: defaultdict[str, list[float]] = defaultdict(list)
        """When each channel got a new message."""
        self._ticket = ticket
        self._paused: dict[str, float] = {}
        self._tokens: dict[str, tuple[float, float]] = {}

    def routes(self) -> list[web.RouteDef]:
        return [
            web.route("*", "/api/{method}", self._serve),
            web.get("/files/{id}/{name}", self._file),
            web.post("/upload/{id}", self._upload),
            web.post("/response/{channel}/{user}", self._respond),
        ]

    async def _serve(self, request: web.Request) -> web.StreamResponse:
        method = request.match_info["method"]
        try:
            arguments = await self._arguments(request, method)
            app = self._authenticate(request, method)
            self.state.calls.append((method, arguments))
            headers = {"X-OAuth-Scopes": ",".join(app.scopes)}
            return web.json_response({"ok": True, **await self._call(app, method, arguments)}, headers=headers)
        except Refused as refused:
            if refused.error == "ratelimited":
                headers = {"Retry-After": str(max(1, math.ceil(refused.more["seconds"])))}
                return web.json_response({"ok": False, "error": "ratelimited"}, status=429, headers=headers)
            if refused.error == "html":
                page = "<html><body>Something went wrong</body></html>"
                return web.Response(status=503, text=page, content_type="text/html")
            return web.json_response({"ok": False, "error": refused.error, **refused.more})
        except Lost:
            assert request.transport is not None
            request.transport.abort()
            raise asyncio.CancelledError from None

    async def _arguments(self, request: web.Request, method: str) -> dict[str, Any]:
        wrong = ""
        arguments: dict[str, Any] = {}
        if method in _JSON:
            if request.method != "POST" or request.content_type != "application/json":
                wrong = "a JSON body"
            else:
                arguments = await request.json()
        elif method in _QUERY:
            wrong = "" if request.method == "POST" and not await request.read() else "a query string on a POST"
            arguments = dict(request.query)
        elif method in _GET:
            wrong = "" if request.method == "GET" else "a GET"
            arguments = dict(request.query)
        if wrong:
            self.state.complain(f"{method}: wants {wrong}")
            raise Refused("invalid_arguments")
        if method not in self.known_methods:
            raise Refused("unknown_method")
        if method in self.closed_methods:
            raise Refused(self.closed_methods[method])
        return arguments

    def _authenticate(self, request: web.Request, method: str) -> SlackApp:
        token = request.headers.get("Authorization", "").removeprefix("Bearer ")
        for app in self.state.apps.values():
            wanted = app.app_token if method == "apps.connections.open" else app.bot_token
            if token == wanted and app.valid:
                return app
        raise Refused("invalid_auth" if token else "not_authed")

    async def _call(self, app: SlackApp, method: str, arguments: dict[str, Any]) -> dict[str, Any]:
        place = f"{app.name} {method} {arguments.get('channel', '') if method in _NEW else ''}"
        if time.monotonic() < self._paused.get(place, 0.0) - 0.02:
            self.state.complain(f"{method}: called during the pause that was asked for")
        fault = befalls(self.faults, method)
        if fault is not None:
            match fault.kind:
                case "limit":
                    raise self._limited(place, fault.seconds)
                case "broken":
                    raise Lost
                case "lost":
                    await self._run(app, method, arguments)
                    raise Lost
                case error:
                    raise Refused(error)
        if method == "chat.postMessage" and self.limits_posts:
            self._count_post(place, str(arguments.get("channel")))
        return await self._run(app, method, arguments)

    def _limited(self, place: str, seconds: float) -> Refused:
        self._paused[place] = time.monotonic() + max(1, math.ceil(seconds))
        return Refused("ratelimited", seconds=seconds)

    def _count_post(self, place: str, channel: str) -> None:
        """One a second in each channel, short bursts pass."""
        now = time.monotonic()
        level, at = self._tokens.get(place, (3.0, now))
        level = min(3.0, level + now - at)
        if level < 1:
            raise self._limited(place, 1.0)
        self._tokens[place] = (level - 1, now)
        self.posted[channel].append(now)

    async def _run(self, app: SlackApp, method: str, arguments: dict[str, Any]) -> dict[str, Any]:
        handler: Handler = getattr(self, "_" + method.replace(".", "_"))
        return await handler(app, arguments)

    # Who and where

    async def _auth_test(self, app: SlackApp, arguments: dict[str, Any]) -> dict[str, Any]:
        return {
            "url": "https://simulated.slack.com/",
            "team": "Simulated",
            "user": app.name,
            "team_id": TEAM,
            "user_id": app.user,
            "bot_id": app.bot,
            "is_enterprise_install": False,
        }

    async def _apps_connections_open(self, app: SlackApp, arguments: dict[str, Any]) -> dict[str, Any]:
        return {"url": self._ticket(app)}

    async def _users_info(self, app: SlackApp, arguments: dict[str, Any]) -> dict[str, Any]:
        self._need(app, "users:read")
        name = self.state.users.get(arguments.get("user", ""))
        if name is None:
            raise Refused("user_not_found")
        profile = {"display_name": name.title(), "real_name": f"{name.title()} Example"}
        id = arguments["user"]
        user = {"id": id, "team_id": TEAM, "name": name, "profile": profile, "is_bot": False}
        user |= {"is_restricted": id in self.state.guests, "is_ultra_restricted": False}
        return {"user": user | ({"team_id": ELSEWHERE, "is_stranger": True} if id in self.state.foreign else {})}

    async def _conversations_info(self, app: SlackApp, arguments: dict[str, Any]) -> dict[str, Any]:
        channel = self._channel(app, arguments)
        return {"channel": {"id": channel.id, "name": channel.name, "is_im": channel.kind == "im"}}

    async def _users_conversations(self, app: SlackApp, arguments: dict[str, Any]) -> dict[str, Any]:
        self._need(app, "im:read")
        found = [
            {"id": channel.id, "is_im": channel.kind == "im"}
            for channel in self.state.channels.values()
            if app.name not in channel.closed_to and (channel.kind == "channel" or channel.id.endswith(str(app.number)))
        ]
        return {"channels": found, "response_metadata": {"next_cursor": ""}}

    def _need(self, app: SlackApp, *scopes: str) -> None:
        if not set(scopes) & set(app.scopes):
            raise Refused("missing_scope", needed=",".join(scopes), provided=",".join(app.scopes))

    def _channel(self, app: SlackApp, arguments: dict[str, Any]) -> SlackChannel:
        channel = self.state.channels.get(arguments.get("channel", ""))
        if channel is None or channel.gone:
            raise Refused("channel_not_found")
        if app.name in channel.closed_to:
            raise Refused("not_in_channel")
        if channel.archived:
            raise Refused("is_archived")
        return channel

    def _own(self, app: SlackApp, arguments: dict[str, Any]) -> SlackMessage:
        message = self._channel(app, arguments).find(arguments.get("ts", ""))
        if message is None:
            raise Refused("message_not_found")
        if message.app is not app:
            self.state.complain(f"{app.name} touched a message that is not its own")
            raise Refused("cant_update_message")
        return message

    # Messages

    def _text(self, method: str, arguments: dict[str, Any], *, required: bool = True) -> str:
        """The text of a message, within the limits."""
        markdown, text = arguments.get("markdown_text"), arguments.get("text")
        if markdown is not None and (text is not None or arguments.get("blocks")):
            self.state.complain(f"{method}: markdown_text and text together")
            raise Refused("markdown_text_conflict")
        for name in ("parse", "link_names"):
            if arguments.get(name):
                self.state.complain(f"{method}: {name} calls people")
        if markdown is not None and len(markdown) > MARKDOWN_LIMIT:
            self.state.complain(f"{method}: {len(markdown)} characters of markdown_text")
            raise Refused("msg_too_long")
        if method == "chat.update" and text is not None and len(text) > UPDATE_LIMIT:
            self.state.complain(f"{method}: {len(text)} characters of text")
            raise Refused("msg_too_long")
        found = str(markdown if markdown is not None else text or "")[:40_000]
        if required and not found.strip():
            self.state.complain(f"{method}: no text")
            raise Refused("no_text")
        return found

    def _metadata(self, arguments: dict[str, Any]) -> dict[str, Any] | None:
        metadata = arguments.get("metadata")
        if metadata is None:
            return None
        if isinstance(metadata, str):
            metadata = json.loads(metadata)
        if set(metadata) != {"event_type", "event_payload"} or len(json.dumps(metadata)) > 16_000:
            self.state.complain("metadata must have event_type and event_payload")
            raise Refused("metadata_must_be_sent_from_app")
        return dict(metadata)

    def _thread(self, channel: SlackChannel, method: str, thread_ts: str) -> str:
        root = channel.find(thread_ts)
        if root is None:
            raise Refused("thread_not_found")
        if root.thread_ts and root.thread_ts != root.ts:
            self.state.complain(f"{method}: thread_ts names a reply, not the root")
        return thread_ts

    async def _chat_postMessage(self, app: SlackApp, arguments: dict[str, Any]) -> dict[str, Any]:  # noqa: N802
        channel = self._channel(app, arguments)
        text = self._text("chat.postMessage", arguments)
        if arguments.get("unfurl_links") is not False or arguments.get("unfurl_media") is not False:
            self.state.complain("chat.postMessage: links of an answer are unfurled")
        thread = arguments.get("thread_ts") or ""
        message = SlackMessage(self.state.ts(), channel.id, app.user, "", app=app, metadata=self._metadata(arguments))
        message.thread_ts = self._thread(channel, "chat.postMessage", thread) if thread else ""
        message.say(text)
        channel.messages.append(message)
        return {"channel": channel.id, "ts": message.ts, "message": message.as_json(metadata=True)}

    async def _chat_postEphemeral(self, app: SlackApp, arguments: dict[str, Any]) -> dict[str, Any]:  # noqa: N802
        """In a thread it is shown only where there is one already."""
        channel = self._channel(app, arguments)
        text = self._text("chat.postEphemeral", arguments)
        if arguments.get("user") not in self.state.users:
            raise Refused("user_not_in_channel")
        thread = arguments.get("thread_ts") or ""
        if thread:
            self._thread(channel, "chat.postEphemeral", thread)
        message = SlackMessage(self.state.ts(), channel.id, app.user, "", app=app, thread_ts=thread, ephemeral=True)
        message.say(text)
        if not thread or any(each.thread_ts == thread and each.ts != thread for each in channel.messages):
            channel.messages.append(message)
        return {"message_ts": message.ts}

    async def _chat_update(self, app: SlackApp, arguments: dict[str, Any]) -> dict[str, Any]:
        message = self._own(app, arguments)
        text = self._text("chat.update", arguments)
        self._expire(message)
        if message.streaming:
            raise Refused("streaming_state_conflict")
        metadata = self._metadata(arguments)
        message.metadata = metadata if metadata is not None else message.metadata
        message.say(text)
        return {"channel": message.channel, "ts": message.ts, "text": text}

    async def _chat_delete(self, app: SlackApp, arguments: dict[str, Any]) -> dict[str, Any]:
        message = self._own(app, arguments)
        self._expire(message)
        if message.streaming:
            raise Refused("streaming_state_conflict")
        self.state.channels[message.channel].messages.remove(message)
        return {"channel": message.channel, "ts": message.ts}

    # Streams

    async def _chat_startStream(self, app: SlackApp, arguments: dict[str, Any]) -> dict[str, Any]:  # noqa: N802
        channel = self._channel(app, arguments)
        if not arguments.get("thread_ts"):
            raise Refused("invalid_arguments")
        thread = self._thread(channel, "chat.startStream", arguments["thread_ts"])
        if channel.kind != "im":
            for name in ("recipient_team_id", "recipient_user_id"):
                if not arguments.get(name):
                    self.state.complain(f"chat.startStream: {name} is missing")
                    raise Refused(f"missing_{name}")
        text = self._text("chat.startStream", arguments, required=False)
        message = SlackMessage(self.state.ts(), channel.id, app.user, "", app=app, thread_ts=thread, streaming=True)
        message.began = time.monotonic()
        message.say(text)
        channel.messages.append(message)
        return {"channel": channel.id, "ts": message.ts}

    def _streamed(self, app: SlackApp, arguments: dict[str, Any]) -> SlackMessage:
        message = self._own(app, arguments)
        self._expire(message)
        if message.stopped_by_user:
            raise Refused("stopped_by_user")
        if not message.streaming:
            raise Refused("message_not_in_streaming_state")
        return message

    def _expire(self, message: SlackMessage) -> None:
        if message.streaming and time.monotonic() - message.began > self.stream_lasts:
            message.streaming = False

    def _grow(self, method: str, message: SlackMessage, text: str) -> None:
        if len(message.text) + len(text) > MARKDOWN_LIMIT:
            self.state.complain(f"{method}: the message has {len(message.text) + len(text)} characters")
            raise Refused("msg_too_long")
        if text:
            message.say(message.text + text)

    async def _chat_appendStream(self, app: SlackApp, arguments: dict[str, Any]) -> dict[str, Any]:  # noqa: N802
        text = self._text("chat.appendStream", arguments)
        message = self._streamed(app, arguments)
        self._grow("chat.appendStream", message, text)
        return {"channel": message.channel, "ts": message.ts}

    async def _chat_stopStream(self, app: SlackApp, arguments: dict[str, Any]) -> dict[str, Any]:  # noqa: N802
        text = self._text("chat.stopStream", arguments, required=False)
        message = self._streamed(app, arguments)
        self._grow("chat.stopStream", message, text)
        message.streaming = False
        message.metadata = self._metadata(arguments) or message.metadata
        return {"channel": message.channel, "ts": message.ts, "message": message.as_json(metadata=True)}

    # History

    async def _conversations_history(self, app: SlackApp, arguments: dict[str, Any]) -> dict[str, Any]:
        channel = self._history_of(app, arguments)
        found = [message for message in channel.messages if message.thread_ts in ("", message.ts)]
        return self._page(found[::-1], arguments)

    async def _conversations_replies(self, app: SlackApp, arguments: dict[str, Any]) -> dict[str, Any]:
        channel = self._history_of(app, arguments)
        root = channel.find(arguments.get("ts", ""))
        if root is None:
            raise Refused("thread_not_found")
        replies = [message for message in channel.messages if message.thread_ts == root.ts and message is not root]
        return self._page(replies, arguments, root)

    def _history_of(self, app: SlackApp, arguments: dict[str, Any]) -> SlackChannel:
        channel = self._channel(app, arguments)
        self._need(app, *(("im:history",) if channel.kind == "im" else ("channels:history",)))
        return channel

    def _page(
        self, messages: list[SlackMessage], arguments: dict[str, Any], root: SlackMessage | None = None
    ) -> dict[str, Any]:
        oldest, latest = arguments.get("oldest") or "0", arguments.get("latest") or "9999999999"
        inclusive = arguments.get("inclusive") in ("1", "true")
        limit, start = int(arguments.get("limit") or 100), int(arguments.get("cursor") or 0)

        def inside(ts: str) -> bool:
            return oldest < ts < latest or (inclusive and ts in (oldest, latest))

        found = [message for message in messages if not message.ephemeral and inside(message.ts)]
        if root is not None:
            found.insert(0, root)
        page, more = found[start : start + limit], len(found) > start + limit
        metadata = arguments.get("include_all_metadata") in ("1", "true")
        return {
            "messages": [message.as_json(metadata=metadata) for message in page],
            "has_more": more,
            "response_metadata": {"next_cursor": str(start + limit) if more else ""},
        }

    # The assistant pane

    async def _assistant_threads_setStatus(self, app: SlackApp, arguments: dict[str, Any]) -> dict[str, Any]:  # noqa: N802
        self._channel(app, {"channel": arguments.get("channel_id")})
        return {}

    async def _assistant_threads_setTitle(self, app: SlackApp, arguments: dict[str, Any]) -> dict[str, Any]:  # noqa: N802
        self._channel(app, {"channel": arguments.get("channel_id")})
        return {}

    async def _assistant_threads_setSuggestedPrompts(self, app: SlackApp, arguments: dict[str, Any]) -> dict[str, Any]:  # noqa: N802
        if not 1 <= len(arguments.get("prompts") or ()) <= 4:
            raise Refused("invalid_arguments")
        return {}

    # Files

    async def _files_info(self, app: SlackApp, arguments: dict[str, Any]) -> dict[str, Any]:
        self._need(app, "files:read")
        file = self.state.files.get(arguments.get("file", ""))
        if file is None:
            raise Refused("file_not_found")
        return {"file": file}

    async def _file(self, request: web.Request) -> web.Response:
        """Without a token that may read files: 200 and a page to log in."""
        token = request.headers.get("Authorization", "").removeprefix("Bearer ")
        app = next((app for app in self.state.apps.values() if app.valid and app.bot_token == token), None)
        id = request.match_info["id"]
        if app is None or "files:read" not in app.scopes:
            return web.Response(
                text="<!DOCTYPE html><html><body>Sign in to Slack</body></html>", content_type="text/html"
            )
        if id not in self.state.contents:
            return web.Response(status=404)
        return web.Response(body=self.state.contents[id], content_type=self.state.files[id]["mimetype"])

    async def _files_getUploadURLExternal(self, app: SlackApp, arguments: dict[str, Any]) -> dict[str, Any]:  # noqa: N802
        self._need(app, "files:write")
        id = f"F0UP{next(self.state.numbers)}"
        self.state.files[id] = {"id": id, "name": arguments["filename"], "size": int(arguments["length"])}
        return {"upload_url": f"{self.base}/upload/{id}", "file_id": id}

    async def _upload(self, request: web.Request) -> web.Response:
        body = await request.read()
        self.state.contents[request.match_info["id"]] = body
        return web.Response(text=f"OK - {len(body)}")

    async def _files_completeUploadExternal(self, app: SlackApp, arguments: dict[str, Any]) -> dict[str, Any]:  # noqa: N802
        channel = self._channel(app, {"channel": arguments.get("channel_id")})
        files = [self.state.files[file["id"]] for file in json.loads(arguments["files"])]
        message = SlackMessage(self.state.ts(), channel.id, app.user, "", app=app, subtype="file_share", files=files)
        message.thread_ts = arguments.get("thread_ts") or ""
        channel.messages.append(message)
        return {"files": files}

    async def _respond(self, request: web.Request) -> web.Response:
        """A `response_url`: what is posted there is seen by one person."""
        body = await request.json()
        channel = self.state.channels[request.match_info["channel"]]
        text = body.get("text") or "".join(str(block.get("text")) for block in body.get("blocks", ()))
        app = next(iter(self.state.apps.values()))
        message = SlackMessage(self.state.ts(), channel.id, app.user, "", app=app, ephemeral=True)
        message.say(text)
        channel.messages.append(message)
        return web.Response(text="ok")
