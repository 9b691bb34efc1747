"""What a person would write in an evening for Slack: bolt, a model call for each message, its answer posted.

No sessions, no journal, no retries. Run: python -m bench.bolt PORT MODEL_URL SLACK_API BOT_TOKEN SIGNING_SECRET
"""

from __future__ import annotations

import json
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

from aiohttp import ClientSession, web
from slack_bolt.async_app import AsyncApp  # type: ignore[import-not-found,unused-ignore]  # installed where it is compared
from slack_sdk.web.async_client import AsyncWebClient


def serve(api: str, token: str, secret: str, ask: Callable[[str], Awaitable[str]]) -> web.Application:
    """The whole script but the call of the model, which is `ask`."""
    app = AsyncApp(client=AsyncWebClient(token, base_url=api), signing_secret=secret)
    server: web.Application = app.web_app(path="/slack/events")

    @app.event("message")  # type: ignore[untyped-decorator,unused-ignore]
    async def answer(event: dict[str, Any], say: Any) -> None:
        await say(await ask(event["text"]), unfurl_links=False, unfurl_media=False)

    async def health(request: web.Request) -> web.Response:
        del request
        return web.json_response({"status": "ok"})

    server.router.add_get("/healthz", health)
    return server


def main(port: int, model: str, api: str, token: str, secret: str) -> None:
    calls: list[ClientSession] = []

    async def ask(question: str) -> str:
        body = {"model": "gpt-test", "messages": [{"role": "user", "content": question}], "stream": True}
        pieces: list[str] = []
        async with calls[0].post("/v1/chat/completions", json=body) as stream:
            async for line in stream.content:
                if line.startswith(b"data: {"):
                    pieces += [choice["delta"].get("content") or "" for choice in json.loads(line[6:])["choices"]]
        return "".join(pieces)

    async def session(app: web.Application) -> AsyncIterator[None]:
        del app
        async with ClientSession(model, headers={"Authorization": "Bearer bench-key"}) as opened:
            calls.append(opened)
            yield

    server = serve(api, token, secret, ask)
    server.cleanup_ctx.append(session)
    web.run_app(server, host="127.0.0.1", port=port, access_log=None, print=None)


if __name__ == "__main__":
    main(int(sys.argv[1]), *sys.argv[2:])
