"""What a person would write in an evening: an aiohttp server that passes each message to the model, and no more.

No sessions, no journal, no limits: the floor that the gateway is compared with. Run: python -m bench.bare PORT MODEL_URL
"""

from __future__ import annotations

import json
import sys

from aiohttp import ClientSession, web

SESSION = web.AppKey("session", ClientSession)


async def chat(request: web.Request) -> web.Response:
    question = (await request.json())["message"]
    body = {"model": "gpt-test", "messages": [{"role": "user", "content": question}], "stream": True}
    pieces: list[str] = []
    async with request.app[SESSION].post("/v1/chat/completions", json=body) as answer:
        async for line in answer.content:
            if line.startswith(b"data: {"):
                pieces += [choice["delta"].get("content") or "" for choice in json.loads(line[6:])["choices"]]
    return web.json_response({"response": "".join(pieces)})


async def health(request: web.Request) -> web.Response:
    del request
    return web.json_response({"status": "ok"})


def main(port: int, model: str) -> None:
    async def session(app: web.Application) -> object:
        async with ClientSession(model, headers={"Authorization": "Bearer bench-key"}) as app[SESSION]:
            yield

    app = web.Application()
    app.cleanup_ctx.append(session)  # type: ignore[arg-type] # an async generator, as aiohttp documents
    app.add_routes([web.post("/chat", chat), web.get("/healthz", health)])
    web.run_app(app, host="127.0.0.1", port=port, access_log=None, print=None)


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2])
