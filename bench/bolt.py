"""What a person would write in an evening for Slack: bolt, a model call for each message, its answer posted.

No sessions, no journal, no retries. Run: python -m bench.bolt PORT MODEL_URL SLACK_API BOT_TOKEN SIGNING_SECRET
"""

from __future__ import annotations

import json
import sys
from collections.abc import AsyncIterator
from typing import Any

from aiohttp import ClientSession, web
from slack_bolt.async_app import AsyncApp  # type: ignore[import-not-found,unused-ignore]  # installed where it is compared
from slack_sdk.web.async_client import AsyncWebClient


def main(port: int, model: str, api: str, token: str, secret: str) -> None:
    app = AsyncApp(client=AsyncWebClient(token, base_url=api), signing_secret=secret)
    server = app.web_app(path="/slack/events")
    calls: list[ClientSession] = []

    @app.event("message")  # type: ignore[untyped-decorator,unused-ignore]
    async def answer(event: dict[str, Any], say: Any) -> None:
        body = {"model": "gpt-test", "messages": [{"role": "user", "content": event["text"]}], "stream": True}
        pieces: list[str] = []
        async with calls[0].post("/v1/chat/completions", json=body) as stream:
            async for line in stream.content:
                if line.startswith(b"data: {"):
                    pieces += [choice["delta"].get("content") or "" for choice in json.loads(line[6:])["choices"]]
        await say("".join(pieces), unfurl_links=False, unfurl_media=False)

    async def health(request: web.Request) -> web.Response:
        del request
        return web.json_response({"status": "ok"})

    async def session(app: web.Application) -> AsyncIterator[None]:
        del app
        async with ClientSession(model, headers={"Authorization": "Bearer bench-key"}) as opened:
            calls.append(opened)
            yield

    server.cleanup_ctx.append(session)
    server.router.add_get("/healthz", health)
    web.run_app(server, host="127.0.0.1", port=port, access_log=None, print=None)


if __name__ == "__main__":
    main(int(sys.argv[1]), *sys.argv[2:])
