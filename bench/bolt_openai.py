"""The same as bench/bolt.py with the vendor's package `openai` for the model call: what most scripts for Slack are made of.

Run: python -m bench.bolt_openai PORT MODEL_URL SLACK_API BOT_TOKEN SIGNING_SECRET
"""

from __future__ import annotations

import sys

from aiohttp import web
from openai import AsyncOpenAI

from bench.bolt import serve


def main(port: int, model: str, api: str, token: str, secret: str) -> None:
    client = AsyncOpenAI(api_key="bench-key", base_url=f"{model}/v1")

    async def ask(question: str) -> str:
        stream = await client.chat.completions.create(
            model="gpt-test", messages=[{"role": "user", "content": question}], stream=True
        )
        return "".join([choice.delta.content or "" async for chunk in stream for choice in chunk.choices])

    web.run_app(serve(api, token, secret, ask), host="127.0.0.1", port=port, access_log=None, print=None)


if __name__ == "__main__":
    main(int(sys.argv[1]), *sys.argv[2:])
