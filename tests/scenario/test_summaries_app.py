"""Long conversations with the whole gateway behind them: configuration, model client, store."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import aiohttp

from gateway.app import App
from gateway.config import load
from tests.core.gateway import until
from tests.simulators.openai_server import OpenAIServer, Request


def summing_up(request: Request) -> bool:
    return "keep the memory" in request.messages[0]["content"]


def reply(request: dict[str, Any]) -> str:
    return "a summary" if "keep the memory" in str(request["messages"][0]) else "an answer"


async def test_a_summary_is_made_by_its_model_kept_and_told_again_after_a_restart(tmp_path: Path) -> None:
    path = tmp_path / "config.yaml"
    async with OpenAIServer(reply=reply) as model, aiohttp.ClientSession() as http:
        path.write_text(
            f"chat: {{api_key: sk-test, base_url: '{model.url}', model: test-model, retries: 0}}\n"
            "sessions: {max_turns: 2, compaction: summarize, summary_model: small-model}\n"
            f"storage: {{url: 'sqlite:{tmp_path}/chat.db'}}\n"
            "server: {port: 0}\n"
            "accounts: {api: {}, web: null}\n"
        )

        async def say(app: App, text: str) -> str:
            async with http.post(app.url + "/chat", json={"message": text, "user": "ann"}) as response:
                assert response.status == 200
                return str((await response.json())["response"])

        async with App(load(path, {})) as app:
            for number in range(3):
                assert await say(app, f"question {number}") == "an answer"
            await until(lambda: any(map(summing_up, model.requests)))
            (task,) = filter(summing_up, model.requests)
            assert task.body["model"] == "small-model"
            assert "> question 0" in task.messages[1]["content"]
            status = await say(app, "/status")
            await until(lambda: not app.compactor.running)
            status = await say(app, "/status")
            assert "Summed up: 2 earlier turns" in status
        async with App(load(path, {})) as app:
            await say(app, "question 3")
        told = [message["content"] for message in model.requests[-1].messages[1:]]
        assert told[0].endswith("> a summary")
        assert told[1:] == ["Noted.", "question 2", "an answer", "question 3"]
