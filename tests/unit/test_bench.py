"""What the benchmark says can be believed: its people notice what goes wrong, and its model keeps its pace."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import pytest

from bench.__main__ import chosen
from bench.people import People
from bench.processes import Model, model_server, script
from bench.roads import ROADS
from bench.table import percentile
from tests.simulators.slack import SimulatedSlack
from tests.simulators.slack_state import SlackMessage


def test_words_choose_parts_and_roads() -> None:
    everything = (["floor", "start", "paced", "scale"], ["http", *ROADS], False)
    assert chosen([]) == everything
    assert chosen(["slack", "quick"]) == ([], ["slack-http", "slack-socket"], True)
    assert chosen(["paced", "discord"]) == (["paced"], ["discord"], False)
    with pytest.raises(ValueError, match="there is no part 'slcak'"):
        chosen(["slcak"])


def test_a_percentile_is_one_of_the_values() -> None:
    assert (percentile(range(100, 0, -1), 0.5), percentile([3.0], 0.99)) == (51, 3.0)


@pytest.fixture
async def people() -> AsyncIterator[People]:
    people = People(ROADS["slack-http"])
    people.platform.account("bot0")  # there is such a bot; nobody listens for it
    async with people.platform:
        yield people


def answers(people: People, *texts: str) -> None:
    """The bot writes to the first person."""
    assert isinstance(people.platform, SimulatedSlack)
    state = people.platform.state
    app = state.app("bot0")
    room = state.direct("person0", app)
    for text in texts:
        message = SlackMessage(state.ts(), room.id, app.user, "", app=app)
        message.say(text)
        room.messages.append(message)
        people.seen(room.id)


RIGHT = ["answer to: word0 q0x", "answer to: word0 q1x"]


@pytest.mark.parametrize(
    ("shown", "found"),
    [
        (RIGHT, {}),
        ([" ".join(RIGHT)], {}),
        (RIGHT[:1], {"lost": 1, "damaged": 1}),
        ([*RIGHT, RIGHT[1]], {"doubled": 1, "damaged": 1}),
        (RIGHT[::-1], {"misordered": 2, "damaged": 1}),
        (["answer to: q0x", RIGHT[1]], {"damaged": 1}),
    ],
)
async def test_people_notice_what_is_not_as_it_should_be(
    people: People, monkeypatch: pytest.MonkeyPatch, shown: list[str], found: dict[str, int]
) -> None:
    monkeypatch.setattr("bench.people.TIMEOUT", 0.1)
    monkeypatch.setattr("bench.people.LOOK", 0.2)
    asking = asyncio.create_task(people.ask_at_once(people=1, each=2, words=2))
    await asyncio.sleep(0)
    answers(people, *shown)
    assert await asking == {"lost": 0, "doubled": 0, "misordered": 0, "damaged": 0} | found


async def test_people_wait_for_the_whole_answer_and_note_its_beginning(people: People) -> None:
    asking = asyncio.create_task(people.ask(users=1, requests=1, people=1))
    while not people.waiting:
        await asyncio.sleep(0)
    answers(people, "answer to:")
    assert not asking.done()
    answers(people, "q0x")
    found = await asking
    [(mark, asked, first, whole)] = found["answers"]
    assert mark == "q0x"
    assert asked <= first <= whole
    assert found["damaged"] == 0


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("bench")


async def answer_of(model: Model, question: str) -> tuple[str, float]:
    """The text, and the seconds it took."""
    loop = asyncio.get_running_loop()
    began, pieces = loop.time(), []
    messages = [{"role": "system", "content": "be kind"}, {"role": "user", "content": question}]
    body = {"model": "m", "messages": messages, "stream": True, "stream_options": {"include_usage": True}}
    async with (
        aiohttp.ClientSession() as session,
        session.post(f"{model.url}/v1/chat/completions", json=body) as response,
    ):
        async for line in response.content:
            if line.startswith(b"data: {"):
                pieces += [choice["delta"].get("content", "") for choice in json.loads(line[6:])["choices"]]
    return "".join(pieces), loop.time() - began


async def test_the_model_repeats_the_question_at_its_pace_and_tells_when(folder: Path) -> None:
    async with model_server(folder) as model:
        text, _ = await answer_of(model, "word0 q7x")
        assert text == "answer to: word0 q7x"
        await model.pace(0.05, 0.02)
        text, took = await answer_of(model, "word0 q8x")
        assert text == "answer to: word0 q8x"
        assert took >= 0.05 + 3 * 0.02
        times = await model.times()
        assert set(times) == {"q7x", "q8x"}
        assert times["q8x"][1] - times["q8x"][0] == pytest.approx(3 * 0.02, abs=0.03)
        assert await model.times() == {}


async def test_a_bare_script_is_started_by_its_command(folder: Path) -> None:
    async with (
        model_server(folder) as model,
        script("bare", folder, model.url) as bare,
        aiohttp.ClientSession() as session,
        session.post(f"{bare.url}/chat", json={"message": "q9x"}) as response,
    ):
        assert await response.json() == {"response": "answer to: q9x"}
        assert bare.cpu > 0
        assert bare.memory > 10
