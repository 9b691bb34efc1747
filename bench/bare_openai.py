"""The same as bench/bare.py with the vendor's package `openai` for the model call. Run: python -m bench.bare_openai PORT MODEL_URL"""

from __future__ import annotations

import sys

from aiohttp import web
from openai import AsyncOpenAI


def main(port: int, model: str) -> None:
    client = AsyncOpenAI(api_key="bench-key", base_url=f"{model}/v1")

    async def chat(request: web.Request) -> web.Response:
        question = (await request.json())["message"]
        stream = await client.chat.completions.create(
            model="gpt-test", messages=[{"role": "user", "content": question}], stream=True
        )
        pieces = [choice.delta.content or "" async for chunk in stream for choice in chunk.choices]
        return web.json_response({"response": "".join(pieces)})

    async def health(request: web.Request) -> web.Response:
        del request
        return web.json_response({"status": "ok"})

    app = web.Application()
    app.add_routes([web.post("/chat", chat), web.get("/healthz", health)])
    web.run_app(app, host="127.0.0.1", port=port, access_log=None, print=None)


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2])
