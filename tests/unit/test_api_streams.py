"""Responses that grow: what a piece looks like, and a reader who does not read."""

from __future__ import annotations

import asyncio
import json

import pytest
from aiohttp import web
from hypothesis import given
from hypothesis import strategies as st

from adapters.api import streams
from adapters.api.completions import Chunks
from adapters.api.faults import Refusal
from adapters.api.streams import ClientGone, Growing


@pytest.mark.parametrize("size", [100, 20_000, 200_000])
async def test_a_reader_who_does_not_read_is_given_up(size: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """However small the pieces: what fits the socket is not waited for, but what does not fit is, for a while."""
    monkeypatch.setattr(streams, "WRITE_TIMEOUT", 0.2)
    gone, written = asyncio.Event(), 0

    def fault(refusal: Refusal) -> bytes:
        raise refusal

    async def answer(request: web.Request) -> web.StreamResponse:
        nonlocal written
        out = Growing(request, "text/event-stream", fault)
        try:
            while True:
                await out.write(b"x" * size)
                written += size
        except ClientGone:
            gone.set()
            raise

    app = web.Application()
    app.router.add_get("/", answer)
    runner = web.AppRunner(app)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        host, port = runner.addresses[0]
        _, writer = await asyncio.open_connection(host, port, limit=1024)
        writer.write(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        await asyncio.wait_for(gone.wait(), 20)
        assert written > 0
        writer.close()
    finally:
        await runner.cleanup()


@given(st.text(), st.sampled_from(["gpt-5", "\x00", 'a"\x00"b', "模型"]))
def test_each_piece_of_a_stream_is_the_same_json_around_another_text(text: str, model: str) -> None:
    chunks = Chunks(model, 1_700_000_000)
    first = json.loads(chunks.first("").removeprefix(b"data: "))
    event = chunks.more(text)
    assert event.startswith(b"data: ")
    assert event.endswith(b"\n\n")
    assert b"\n" not in event[:-2]
    choice = {"index": 0, "delta": {"content": text}, "logprobs": None, "finish_reason": None}
    assert json.loads(event[6:]) == first | {"choices": [choice]}
    assert first["model"] == model
