"""What every chat platform's adapter must do, shown on its wire.

A platform's test module subclasses `AdapterContract` and brings its simulator (tests/contract/platform.py) as the
fixture `platform`. Around it runs the real program: configuration, store, inbox, dispatcher, responder, ChatGPT client
(against a simulated server) and supervisor. A check is left out only where the platform's class declares in `lacks`
that it has no such thing, and says why.
"""

from __future__ import annotations

import asyncio
import copy
import json
import os
import random
import re
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, TypeVar

import aiohttp
import pytest
from aiohttp import web
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from core.adapter import CanEdit, CanFind, CanStream, CatchesUp, Diagnoses, FetchesFiles, Heard, Keyed
from core.errors import FileRefused, FileTooLarge
from core.messages import InboundMessage
from core.storage.codec import encode
from core.texts import say
from gateway.supervisor import AccountState
from tests.contract.platform import Delivery, Feature, File, SimulatedPlatform
from tests.contract.world import World, holds, missing, once, until
from tests.simulators.openai_server import Fault, OpenAIServer, Settings

DROPS_FOR = float(os.environ.get("CHATGPT_MS_DROPS_FOR", "10"))
"""Seconds."""

TIMED = int(os.environ.get("CHATGPT_MS_TIMED", "25"))
"""Questions of which it is told how soon their answers are seen."""

USERS = int(os.environ.get("CHATGPT_MS_USERS", "12"))
"""Who talk at the same time."""

EVENTS = int(os.environ.get("CHATGPT_MS_EVENTS", "40"))
"""That are delivered five times each."""

Check = TypeVar("Check", bound=Callable[..., Any])


def needs(*features: Feature) -> Callable[[Check], Check]:
    """The check is left out where the platform lacks one of these."""

    def mark(check: Check) -> Check:
        check.needs = features  # type: ignore[attr-defined]  # read by the fixture below
        return check

    return mark


def long_answer(length: int = 30_000) -> str:
    """An answer with everything in it: tables, code, lists, quotes, links, other scripts."""
    pieces = ["# A long answer\n"]
    number = 0
    while sum(map(len, pieces)) < length:
        number += 1
        rows = "\n".join(f"| row {number}.{row} | {row * number} | {'wide ' * (row % 4)}cell |" for row in range(8))
        pieces.append(
            f"\n## Part {number}\n\nSome **bold** and _slanted_ words, `code {number}`, 中文字符，标点。 Été à Zürich 🙂.\n\n"
            f"| name | value | remark |\n|---|--:|---|\n{rows}\n\n"
            f"```python\ndef part_{number}(x: int) -> str:\n    # a comment with * and _ and <tags> & such\n"
            f'    return f"{{x}} of {number}" * {number}\n```\n\n'
            f"1. first of {number}\n2. second\n   - inner [link {number}](https://example.com/{number}?a=1&b=2)\n\n"
            f"> quoted {number}\n\nA paragraph of many words, {'and more words ' * 20}ending {number}.\n"
        )
    return "".join(pieces)


def hurry(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pauses that are there for the sake of platforms and people are short."""
    monkeypatch.setattr("gateway.supervisor.FIRST_PAUSE", 0.05)
    monkeypatch.setattr("gateway.supervisor.LONGEST_PAUSE", 0.5)
    monkeypatch.setattr("gateway.app.DRAIN_TURNS", 0.2)
    monkeypatch.setattr("gateway.app.DRAIN_OUTBOX", 0.5)


class AdapterContract:
    """See the module's text."""

    @pytest.fixture
    def platform(self) -> SimulatedPlatform:
        """The simulator, not entered yet."""
        raise NotImplementedError("bring the platform's simulator")

    @pytest.fixture(autouse=True)
    def _declared(self, request: pytest.FixtureRequest, platform: SimulatedPlatform) -> None:
        for feature in getattr(request.function, "needs", ()):
            if feature in platform.lacks:
                pytest.skip(f"{feature.name}: {platform.lacks[feature]}")

    @pytest.fixture(autouse=True)
    def _impatient(self, monkeypatch: pytest.MonkeyPatch) -> None:
        hurry(monkeypatch)

    @pytest.fixture
    async def world(self, platform: SimulatedPlatform, tmp_path: Path) -> AsyncIterator[World]:
        """The simulators; the check starts the gateway. Whatever the platform complained of fails the check."""
        apart = Settings(
            token_delay=0.005, pieces_apart=True
        )  # an answer that is whole at once is not shown as it grows
        async with OpenAIServer(settings=apart) as model, platform:
            yield World(platform, model, tmp_path)
            assert list(platform.complaints()) == []

    # What is answered

    async def test_a_direct_message_is_answered_once(self, world: World) -> None:
        async with world.gateway() as gateway:
            asked = await world.platform.person_writes("hello there")
            await world.answered(gateway, asked, "answer to: hello there")
            assert len(world.model.requests) == 1
            (message,) = gateway.store.accepted
            assert (message.text, message.is_direct, message.account) == ("hello there", True, "bot")
            assert message.sent_at.tzinfo is not None
            assert abs(datetime.now(UTC) - message.sent_at) < timedelta(minutes=5)
            assert not message.sender.is_bot

    async def test_questions_of_one_person_are_answered_in_their_order(self, world: World) -> None:
        async with world.gateway() as gateway:
            for number in range(5):
                asked = await world.platform.person_writes(f"question {number}")
                await until(lambda number=number: len(gateway.store.accepted) > number)  # type: ignore[misc]  # mypy cannot infer a lambda with a default
            await until(lambda: world.told(asked, "answer to: question 4"))
            assert [request.last for request in world.model.requests] == [f"question {n}" for n in range(5)]
            assert missing(" ".join(f"answer to: question {n}" for n in range(5)), world.texts(asked)) == ""

    @needs(Feature.CHANNELS)
    async def test_in_a_channel_only_who_mentions_the_bot_is_answered(self, world: World) -> None:
        async with world.gateway() as gateway:
            await world.platform.person_writes("not for you", direct=False, mention=False)
            asked = await world.platform.person_writes("for you", direct=False)
            await world.answered(gateway, asked, "answer to: for you")
            await world.fence(gateway)
            assert "not for you" not in {request.last for request in world.model.requests}
            message = gateway.store.accepted[0]
            assert (message.text, message.is_direct, message.mentions_bot) == ("for you", False, True)

    @needs(Feature.THREADS)
    async def test_an_answer_stays_in_its_thread(self, world: World) -> None:
        async with world.gateway() as gateway:
            first = await world.platform.person_writes("in the channel", direct=False)
            await world.answered(gateway, first, "answer to: in the channel")
            assert {reply.thread for reply in world.replies(first)} == {first.thread}
            other = await world.platform.person_writes("another", direct=False, user="bob")
            await until(lambda: world.told(other, "answer to: another"))
            second = await world.platform.person_writes("in the thread", direct=False, thread=first.thread)
            assert second.thread == first.thread
            await until(lambda: world.told(second, "answer to: in the thread"))
            await until(lambda: gateway.idle)
            for delivery, text in ((first, "in the thread"), (other, "another")):
                replies = [reply for reply in world.replies(delivery) if reply.thread == delivery.thread]
                assert once(f"answer to: {text}", [reply.text for reply in replies])

    async def test_the_gateways_own_commands_work(self, world: World) -> None:
        async with world.gateway() as gateway:
            asked = await world.platform.person_writes("/whoami")
            await until(lambda: world.texts(asked))
            await until(lambda: gateway.idle)
            assert gateway.store.accepted[0].sender.id in "".join(world.texts(asked))
            assert not world.model.requests

    async def test_a_failure_of_the_model_is_told_without_its_words(self, world: World) -> None:
        world.model.configure(faults=[Fault(kind="invalid_key")])
        async with world.gateway() as gateway:
            asked = await world.platform.person_writes("hello")
            await until(lambda: world.texts(asked))
            await until(lambda: gateway.idle)
            shown = "".join(world.texts(asked))
            assert len(world.replies(asked)) == 1
            assert "sk-" not in shown
            assert "API key" not in shown

    @needs(Feature.BOTS)
    async def test_other_bots_are_not_answered(self, world: World) -> None:
        async with world.gateway() as gateway:
            await world.platform.bot_writes("I am a bot", own=False)
            await world.fence(gateway)
            assert [request.last for request in world.model.requests] == ["fence 0"]

    @needs(Feature.OWN)
    async def test_the_bots_own_messages_are_not_answered(self, world: World) -> None:
        async with world.gateway() as gateway:
            await world.platform.bot_writes("I said this myself", own=True)
            await world.fence(gateway)
            await world.fence(gateway)
            assert [request.last for request in world.model.requests] == ["fence 0", "fence 1"]

    @needs(Feature.EDITS)
    async def test_a_changed_message_is_not_answered_again(self, world: World) -> None:
        async with world.gateway() as gateway:
            asked = await world.platform.person_writes("helo")
            await world.answered(gateway, asked, "answer to: helo")
            await world.platform.person_edits(asked, "hello")
            await world.fence(gateway)
            assert [request.last for request in world.model.requests] == ["helo", "fence 1"]

    # Guarantees

    async def test_a_storm_of_redeliveries_gets_one_answer(self, world: World) -> None:
        async with world.gateway() as gateway:
            asked = await world.platform.person_writes("once")
            await world.platform.redeliver(asked, times=199)
            await world.answered(gateway, asked, "answer to: once")
            if Feature.ACKNOWLEDGEMENT not in world.platform.lacks:
                await until(lambda: world.platform.acknowledged(asked) >= 200)
            await world.fence(gateway)
            await world.platform.redeliver(asked)
            await world.fence(gateway)
            assert [request.last for request in world.model.requests] == ["once", "fence 1", "fence 2"]
            assert once("answer to: once", world.texts(asked))

    async def test_a_redelivery_after_a_restart_gets_no_second_answer(self, world: World) -> None:
        async with world.gateway() as gateway:
            asked = await world.platform.person_writes("once")
            await world.answered(gateway, asked, "answer to: once")
        async with world.gateway() as gateway:
            await world.platform.redeliver(asked, times=3)
            await world.fence(gateway)
            assert once("answer to: once", world.texts(asked))
            assert [request.last for request in world.model.requests] == ["once", "fence 1"]

    async def test_redeliveries_within_seven_hours_get_no_second_answer(self, world: World) -> None:
        """As Feishu does it when no acknowledgement arrives, each time to another process."""
        asked: dict[str, Delivery] = {}
        async with world.gateway() as gateway:
            for number in range(EVENTS):
                text = f"<{number}>"
                asked[text] = await world.platform.person_writes(text, user=f"user{number % 20}")
            await until(lambda: len(gateway.store.accepted) >= EVENTS and gateway.idle)
        for seconds in (15, 300, 3600, 6 * 3600):
            world.clock.passed += timedelta(seconds=seconds)
            async with world.gateway() as gateway:
                for delivery in asked.values():
                    await world.platform.redeliver(delivery)
                await until(lambda: gateway.store.asked >= EVENTS)
                await until(lambda: gateway.idle)
                assert gateway.store.accepted == []
        assert sorted(request.last for request in world.model.requests) == sorted(asked)
        assert [text for text, delivery in asked.items() if not once(f"answer to: {text}", world.texts(delivery))] == []

    @needs(Feature.ACKNOWLEDGEMENT)
    async def test_a_message_is_acknowledged_after_the_commit_and_not_before(self, world: World) -> None:
        async with world.gateway() as gateway:
            gate = gateway.store.gate = asyncio.Event()
            asked = await world.platform.person_writes("hello")
            await until(lambda: gateway.store.asked)
            await holds(lambda: world.platform.acknowledged(asked) == 0)
            gate.set()
            await until(lambda: world.platform.acknowledged(asked) >= 1)
            await world.answered(gateway, asked, "answer to: hello")

    @needs(Feature.ACKNOWLEDGEMENT)
    async def test_what_could_not_be_stored_is_not_acknowledged(self, world: World) -> None:
        async with world.gateway() as gateway:
            gateway.store.failing = True
            asked = await world.platform.person_writes("hello")
            await until(lambda: gateway.store.asked)
            await holds(lambda: world.platform.acknowledged(asked) == 0)
            gateway.store.failing = False
            await world.platform.redeliver(asked)
            await until(lambda: world.platform.acknowledged(asked) >= 1)
            await world.answered(gateway, asked, "answer to: hello")

    @needs(Feature.ACKNOWLEDGEMENT)
    async def test_what_nobody_answers_is_acknowledged_all_the_same(self, world: World) -> None:
        world.changes = {"access": {"direct": "off"}}
        async with world.gateway():
            asked = await world.platform.person_writes("hello")
            await until(lambda: world.platform.acknowledged(asked) == 1)
            assert not world.model.requests

    async def test_a_failing_store_does_not_end_the_link(self, world: World) -> None:
        async with world.gateway() as gateway:
            gateway.store.failing = True
            await world.platform.person_writes("lost or redelivered")
            await until(lambda: gateway.store.asked)
            gateway.store.failing = False
            asked = await world.platform.person_writes("heard", user="bob")
            await world.answered(gateway, asked, "answer to: heard")

    async def test_a_reply_finds_its_way_back_after_a_restart(self, world: World) -> None:
        world.model.pause()
        direct = Feature.CHANNELS in world.platform.lacks
        async with world.gateway() as gateway:
            asked = await world.platform.person_writes("hello", direct=direct)
            other = await world.platform.person_writes("hi", user="bob")
            await until(lambda: len(world.model.requests) == 2)
            assert len(gateway.store.accepted) == 2
        world.model.resume()
        async with world.gateway() as gateway:
            await world.answered(gateway, asked, "answer to: hello")
            await world.answered(gateway, other, "answer to: hi")
            assert {reply.thread for reply in world.replies(asked)} == {asked.thread}

    @needs(Feature.CHANNELS)
    async def test_two_people_in_one_channel_share_nothing(self, world: World) -> None:
        async with world.gateway() as gateway:
            questions = {user: f"the secret of {user} is {user * 3}" for user in ("ann", "bob")}

            async def talk(user: str) -> None:
                for text in (questions[user], "what did I say?"):
                    number = sum(request.last == text for request in world.model.requests)
                    await world.platform.person_writes(text, user=user, direct=False)
                    await until(
                        lambda number=number, text=text: (  # type: ignore[misc]  # mypy cannot infer a lambda with a default
                            sum(request.last == text for request in world.model.requests) > number
                        )
                    )

            await asyncio.gather(talk("ann"), talk("bob"))
            await until(lambda: len(world.model.requests) == 4 and gateway.idle)
            for request in world.model.requests:
                prompt = json.dumps(request.messages)
                assert sum(question in prompt for question in questions.values()) == 1, prompt
            for user, question in questions.items():
                last = [request for request in world.model.requests if question in json.dumps(request.messages)][-1]
                assert last.last == "what did I say?", user

    async def test_nobody_is_told_what_another_wrote(self, world: World) -> None:
        """Everybody's answer tells whose words the model was given."""
        world.model.reply = lambda body: " ".join({*re.findall(r"canary\d+x", json.dumps(body["messages"]))})
        canaries = {f"user{number}": f"canary{number:04d}x" for number in range(USERS)}
        chance = random.Random(11)
        rooms: dict[str, set[str]] = {user: set() for user in canaries}

        async def talk(user: str) -> None:
            for word in ("first", "second", "third"):
                direct = Feature.CHANNELS in world.platform.lacks or chance.random() < 0.7
                channel = f"room{int(user.removeprefix('user')) // 3}"
                asked = await world.platform.person_writes(
                    f"{word} {canaries[user]}", user=user, channel=channel, direct=direct
                )
                if direct:
                    rooms[user].add(asked.room)
                await asyncio.sleep(chance.random() / 50)

        async with world.gateway() as gateway:
            async with asyncio.TaskGroup() as group:
                for user in canaries:
                    group.create_task(talk(user))
            await until(lambda: len(gateway.store.accepted) == 3 * USERS and gateway.idle)
        for request in world.model.requests:
            told = json.dumps(request.messages)
            assert sum(canary in told for canary in canaries.values()) == 1, told
        for user, canary in canaries.items():
            shown = " ".join(each.text for room in rooms[user] for each in world.platform.visible(room))
            assert [other for other in canaries.values() if other in shown] == ([canary] if rooms[user] else []), user
        assert len(world.model.requests) == 3 * USERS

    async def test_accounts_in_one_process_do_not_mix(self, world: World) -> None:
        async with world.gateway("bot", "other") as gateway:
            to_bot = await world.platform.person_writes("to bot", account="bot")
            to_other = await world.platform.person_writes("to other", account="other")
            await world.answered(gateway, to_bot, "answer to: to bot")
            await world.answered(gateway, to_other, "answer to: to other")
            assert {reply.account for reply in world.replies(to_bot) if "to bot" in reply.text} == {"bot"}
            assert {reply.account for reply in world.replies(to_other) if "to other" in reply.text} == {"other"}
            assert {message.text: message.account for message in gateway.store.accepted} == {
                "to bot": "bot",
                "to other": "other",
            }
            assert all(len(request.messages) == 2 for request in world.model.requests)

    # How answers look

    async def test_a_long_answer_arrives_whole_and_within_the_limits(self, world: World) -> None:
        answer = long_answer()
        world.model.configure(reply=f"={answer}", piece=250)
        async with world.gateway() as gateway:
            asked = await world.platform.person_writes(
                "tell me everything", direct=Feature.CHANNELS in world.platform.lacks
            )
            await until(lambda: gateway.store.accepted)
            await until(lambda: gateway.idle, seconds=120)
            assert missing(answer, world.texts(asked)) == ""
            shown = "".join(world.texts(asked))
            for line in ("A long answer", "part_1(x: int)", "row 1.0", "ending 1."):
                assert shown.count(line) == 1, line
            assert len({reply.id for reply in world.replies(asked)}) == len(world.replies(asked)) > 0
            assert await gateway.store.dead_letters() == []

    @needs(Feature.PINGS)
    async def test_no_answer_notifies_anybody(self, world: World) -> None:
        said = list(world.platform.alarming)
        answer = "\n\n".join([*said, *(f"**{text}** and `{text}`" for text in said), "\n".join(f"- {t}" for t in said)])
        world.model.configure(reply=f"={answer}")
        async with world.gateway() as gateway:
            for direct in (True, False) if Feature.CHANNELS not in world.platform.lacks else (True,):
                asked = await world.platform.person_writes("whom?", direct=direct)
                await until(lambda asked=asked: world.texts(asked))  # type: ignore[misc]  # mypy cannot infer a lambda with a default
                await until(lambda: gateway.idle)
                assert world.texts(asked)
            assert list(world.platform.pings()) == []

    @needs(Feature.GROWTH)
    async def test_an_answer_grows_and_ends_whole(self, world: World) -> None:
        words = " ".join(f"word{number}" for number in range(60))
        world.model.configure(reply=f"={words}", token_delay=0.06, pieces_apart=True)
        async with world.gateway() as gateway:
            asked = await world.platform.person_writes("slowly")
            await until(lambda: any("word0" in text for text in world.texts(asked)))
            assert not world.told(asked, words)
            await world.answered(gateway, asked, words)
            (reply,) = world.replies(asked)
            assert len(set(reply.versions)) > 1
            assert len(reply.versions[0]) < len(reply.versions[-1])
            assert not reply.growing

    async def test_without_streaming_an_answer_comes_at_once(self, world: World) -> None:
        world.changes = {"stream": False}
        world.model.configure(reply="=one two three four", token_delay=0.02, pieces_apart=True)
        async with world.gateway() as gateway:
            asked = await world.platform.person_writes("at once")
            await world.answered(gateway, asked, "one two three four")
            (reply,) = world.replies(asked)
            assert len(set(reply.versions)) <= 1

    # What goes wrong on the way out

    @needs(Feature.RATE_LIMIT)
    @pytest.mark.parametrize("stream", [True, False])
    async def test_a_rate_limit_is_waited_for(self, world: World, stream: bool) -> None:
        world.changes = {"stream": stream}
        async with world.gateway() as gateway:
            world.platform.limit_rate(1.0)
            asked = await world.platform.person_writes("hello")
            await world.answered(gateway, asked, "answer to: hello")

    @needs(Feature.DOUBT)
    @pytest.mark.parametrize(("stream", "after"), [(True, True), (False, True), (False, False)])
    async def test_a_send_in_doubt_is_settled(
        self, world: World, stream: bool, after: bool, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("core.delivery.SEND_TIMEOUT", 1.5)
        world.changes = {"stream": stream}
        async with world.gateway() as gateway:
            world.platform.break_send(after=after)
            asked = await world.platform.person_writes("hello")
            await until(lambda: gateway.store.accepted)
            await until(lambda: gateway.idle and world.told(asked, "answer to: hello"))
            if isinstance(gateway.reply(gateway.store.accepted[0]), Keyed | CanFind):
                assert once("answer to: hello", world.texts(asked)), world.texts(asked)
            else:
                repeated = [text for text in world.texts(asked) if "may be repeated" in text]
                assert len(world.texts(asked)) == (len(repeated) + 1 if after else 1), world.texts(asked)
            assert await gateway.store.dead_letters() == []

    @needs(Feature.GONE)
    async def test_a_reply_to_a_place_that_is_gone_is_a_dead_letter(self, world: World) -> None:
        world.model.pause()
        async with world.gateway() as gateway:
            asked = await world.platform.person_writes("hello", direct=Feature.CHANNELS in world.platform.lacks)
            await until(lambda: world.model.requests)
            world.platform.remove(asked.room)
            world.model.resume()
            await until(lambda: gateway.idle)
            (letter,) = await gateway.store.dead_letters()
            assert letter.account == "bot"
            assert letter.reason
            await world.fence(gateway)

    # The link

    @needs(Feature.CREDENTIALS)
    async def test_wrong_credentials_fail_this_account_alone_and_visibly(self, world: World) -> None:
        world.platform.refuse_credentials("other")
        async with world.gateway("bot", "other", listening=False) as gateway:
            await until(lambda: gateway.state("other") is AccountState.FAILED)
            async with asyncio.timeout(30):
                await world.platform.listening("bot")
            await world.fence(gateway)
            await until(lambda: gateway.state("bot") is AccountState.CONNECTED)
            async with aiohttp.ClientSession() as session, session.get(f"{gateway.app.url}/readyz") as response:
                assert response.status == 503
                shown = await response.json()
            account = shown["accounts"]["other"]
            assert (account["state"], shown["accounts"]["bot"]["state"]) == ("failed", "connected")
            assert account["reason"]
            secrets = _secrets(world.platform.account("other"))
            assert secrets
            told = json.dumps(shown) + json.dumps([str(entry) for entry in gateway.logs])
            assert not [secret for secret in secrets if secret in told]

    @needs(Feature.CREDENTIALS, Feature.LINK)
    async def test_credentials_that_are_withdrawn_fail_the_account(self, world: World) -> None:
        async with world.gateway() as gateway:
            await world.fence(gateway)
            world.platform.refuse_credentials()
            await world.platform.drop()
            await until(lambda: gateway.state() is AccountState.FAILED)
            assert gateway.app.supervisors[gateway.store.accepted[0].account].health.reason

    @needs(Feature.LINK)
    async def test_after_a_drop_messages_are_heard_again(self, world: World) -> None:
        async with world.gateway() as gateway:
            for number in range(3):
                await world.platform.drop()
                async with asyncio.timeout(30):
                    await world.platform.listening()
                asked = await world.platform.person_writes(f"after drop {number}")
                await world.answered(gateway, asked, f"answer to: after drop {number}")
                assert world.platform.links() >= 1
        assert world.platform.links() == 0

    @needs(Feature.LINK)
    async def test_refused_connections_are_tried_again(self, world: World) -> None:
        async with world.gateway() as gateway:
            world.platform.refuse_links(3)
            await world.platform.drop()
            async with asyncio.timeout(30):
                await world.platform.listening()
            asked = await world.platform.person_writes("after all")
            await world.answered(gateway, asked, "answer to: after all")
            await until(lambda: gateway.state() is AccountState.CONNECTED)

    @needs(Feature.LINK)
    async def test_a_platform_that_is_away_at_the_start_is_waited_for(self, world: World) -> None:
        world.platform.refuse_links(3)
        async with world.gateway() as gateway:
            asked = await world.platform.person_writes("at last")
            await world.answered(gateway, asked, "answer to: at last")

    @needs(Feature.LINK)
    async def test_an_answer_waits_for_an_account_that_is_away(
        self, world: World, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Longer than any retry. Where the link alone is away the answer may also arrive meanwhile."""
        monkeypatch.setattr("core.delivery.RETRY_AFTER", (0.05,))
        world.model.pause()
        async with world.gateway() as gateway:
            asked = await world.platform.person_writes("hello")
            await until(lambda: world.model.requests)
            world.platform.refuse_links(4)
            await world.platform.drop()
            await until(lambda: gateway.state() is not AccountState.CONNECTED)
            world.model.resume()
            await until(lambda: gateway.idle)
            await until(lambda: gateway.state() is AccountState.CONNECTED)
            await world.answered(gateway, asked, "answer to: hello")
            assert await gateway.store.dead_letters() == []

    @needs(Feature.LINK, Feature.SILENCE)
    async def test_a_half_open_connection_is_noticed(self, world: World) -> None:
        async with world.gateway(listening=False) as gateway:
            adapter = gateway.adapter()
            assert isinstance(adapter, Heard)
            adapter.deaf_after = world.platform.patience
            async with asyncio.timeout(30):
                await world.platform.listening()
            await world.fence(gateway)
            world.platform.go_silent()
            async with asyncio.timeout(30):
                await world.platform.listening()
            asked = await world.platform.person_writes("still there?")
            await world.answered(gateway, asked, "answer to: still there?")
            await until(lambda: gateway.state() is AccountState.CONNECTED)
            assert gateway.health().last_heard is not None
            await until(lambda: gateway.health().reconnects >= 1)

    @needs(Feature.SILENCE)
    async def test_an_idle_link_stays_up(self, world: World) -> None:
        async with world.gateway() as gateway:
            adapter = gateway.adapter()
            assert isinstance(adapter, Heard)
            adapter.deaf_after = world.platform.patience
            await until(lambda: gateway.state() is AccountState.CONNECTED)
            heard = gateway.health().last_heard
            assert heard is not None
            await until(lambda: (gateway.health().last_heard or heard) > heard + 2 * world.platform.patience)
            assert gateway.health().reconnects == 0

    # What was missed

    @needs(Feature.HISTORY)
    async def test_what_was_written_during_a_restart_is_answered_once(self, world: World) -> None:
        async with world.gateway() as gateway:
            before = await world.platform.person_writes("before")
            await world.answered(gateway, before, "answer to: before")
        missed = await world.platform.person_writes("meanwhile")
        async with world.gateway() as gateway:
            await world.answered(gateway, missed, "answer to: meanwhile")
            await world.fence(gateway)
            await until(lambda: gateway.idle)
            assert [request.last for request in world.model.requests][:3] == ["before", "meanwhile", "fence 2"]
            assert len(world.model.requests) == 3

    @needs(Feature.HISTORY, Feature.CHANNELS)
    async def test_what_was_written_in_a_channel_during_a_restart_is_answered_in_its_place(self, world: World) -> None:
        async with world.gateway() as gateway:
            before = await world.platform.person_writes("before", direct=False)
            await world.answered(gateway, before, "answer to: before")
        in_thread = await world.platform.person_writes("in the thread", direct=False, thread=before.thread)
        in_channel = await world.platform.person_writes("in the channel", direct=False, user="bob")
        await world.platform.person_writes("not for the bot", direct=False, mention=False)
        await world.platform.bot_writes("a bot speaks", own=False)
        async with world.gateway() as gateway:
            await until(lambda: world.told(in_thread, "answer to: in the thread"))
            await until(lambda: world.told(in_channel, "answer to: in the channel"))
            await world.fence(gateway)
            assert sorted(request.last for request in world.model.requests) == sorted(
                ["before", "in the thread", "in the channel", "fence 3"]
            )
            for delivery in (in_thread, in_channel):
                assert any(reply.thread == delivery.thread for reply in world.replies(delivery))

    @needs(Feature.HISTORY)
    async def test_what_is_too_old_is_not_read_back_and_off_means_off(self, world: World) -> None:
        world.changes = {"backfill": "30m"}
        async with world.gateway() as gateway:
            before = await world.platform.person_writes("before")
            await world.answered(gateway, before, "answer to: before")
        await world.platform.person_writes("long ago", age=timedelta(minutes=50))
        async with world.gateway() as gateway:
            await world.fence(gateway)
        world.changes = {"backfill": "off"}
        await world.platform.person_writes("unread", user="bob")
        async with world.gateway() as gateway:
            await world.fence(gateway)
            await holds(lambda: gateway.idle)
        asked = {request.last for request in world.model.requests}
        assert "long ago" not in asked
        assert "unread" not in asked

    @needs(Feature.HISTORY, Feature.LINK)
    async def test_a_link_that_keeps_dropping_loses_and_doubles_nothing(self, world: World) -> None:
        async with world.gateway() as gateway:
            await world.fence(gateway)
            asked: list[tuple[str, Delivery]] = []
            for number in range(8):
                text = f"message {number}"
                asked.append((text, await world.platform.person_writes(text)))
                await world.platform.drop()
                if number % 2:
                    async with asyncio.timeout(30):
                        await world.platform.listening()
            for text, delivery in asked:
                # a call that a drop cut off is looked up after 35 s
                await until(lambda text=text, delivery=delivery: world.told(delivery, f"answer to: {text}"), seconds=90)  # type: ignore[misc]  # mypy cannot infer a lambda with a default
            await until(lambda: gateway.idle, seconds=90)
            counts = [sum(request.last == text for request in world.model.requests) for text, _ in asked]
            assert counts == [1] * len(asked)

    # Figures; shown with -s

    @pytest.mark.slow
    @needs(Feature.HISTORY, Feature.LINK)
    async def test_drops_every_two_seconds_lose_and_double_nothing(self, world: World) -> None:
        async with world.gateway() as gateway:
            await world.fence(gateway)
            asked: dict[str, Delivery] = {}
            drops = 0
            for number in range(int(4 * DROPS_FOR)):
                text = f"message {number}."
                asked[text] = await world.platform.person_writes(text, user=f"user{number % 20}")
                if number % 8 == 7:
                    await world.platform.drop()
                    drops += 1
                await asyncio.sleep(0.25)
            for text, delivery in asked.items():
                await until(lambda text=text, delivery=delivery: world.told(delivery, f"answer to: {text}"))  # type: ignore[misc]  # mypy cannot infer a lambda with a default
            await until(lambda: gateway.idle)
            counts = [sum(request.last == text for request in world.model.requests) for text in asked]
            shown = [once(f"answer to: {text}", world.texts(delivery)) for text, delivery in asked.items()]
            lost, doubled = counts.count(0), sum(count > 1 for count in counts) + shown.count(False)
            print(f"\n{drops} drops, {len(asked)} messages: {lost} lost, {doubled} doubled, {gateway.health()}")
            assert drops >= int(DROPS_FOR / 2) >= 5
            assert (lost, doubled) == (0, 0)

    @pytest.mark.slow
    async def test_the_time_from_a_message_to_the_first_visible_text(self, world: World) -> None:
        loop = asyncio.get_running_loop()
        seconds = []
        async with world.gateway() as gateway:
            for number in range(TIMED):
                world.model.requests.clear()
                began = loop.time()
                asked = await world.platform.person_writes("hello", user=f"user{number}")
                while not world.texts(asked):
                    await asyncio.sleep(0.001)
                seen = loop.time()
                await world.answered(gateway, asked, "answer to: hello")
                (request,) = world.model.requests
                assert request.finished is not None
                seconds.append(seen - began - (request.finished - request.started))
        seconds.sort()
        p50, p99 = (1000 * seconds[index] for index in (len(seconds) // 2, -1 - len(seconds) // 100))
        print(f"\nfrom a message to its first visible text beyond the model's own: p50 {p50:.0f} ms, p99 {p99:.0f} ms")
        assert len(seconds) == TIMED

    # Files

    @needs(Feature.FILES)
    async def test_files_are_described_and_fetched_within_the_cap(self, world: World) -> None:
        content = bytes(range(256)) * 100
        sent = (File(name="a.bin", media_type="application/octet-stream", content=content), File())
        async with world.gateway() as gateway:
            asked = await world.platform.person_writes("look at this", files=sent)
            await world.answered(gateway, asked, "answer to: look at this")
            first, second = gateway.store.accepted[0].attachments
            assert (first.name, first.size, second.name) == ("a.bin", len(content), "notes.txt")
            assert second.media_type.startswith("text/plain")
            adapter = gateway.adapter()
            assert isinstance(adapter, FetchesFiles)
            assert await adapter.fetch(first, most_bytes=len(content)) == content
            with pytest.raises(FileTooLarge):
                await adapter.fetch(first, most_bytes=len(content) - 1)

    @needs(Feature.FILES)
    async def test_files_come_from_the_platform_alone(self, world: World) -> None:
        asked_for: list[str] = []

        async def notice(request: web.Request) -> web.StreamResponse:
            asked_for.append(request.path)
            return web.Response(text="a secret of another server")

        async with world.gateway() as gateway:
            asked = await world.platform.person_writes("look", files=(File(),))
            await world.answered(gateway, asked, "answer to: look")
            (attachment,) = gateway.store.accepted[0].attachments
            adapter = gateway.adapter()
            assert isinstance(adapter, FetchesFiles)
            async with _serving(notice) as url:
                for forged in (
                    f"{url}/x",
                    "http://169.254.169.254/latest",
                    "https://example.com/x",
                    "file:///etc/hosts",
                ):
                    with pytest.raises(FileRefused):
                        await adapter.fetch(world.platform.elsewhere(attachment, forged), most_bytes=1000)
            assert asked_for == []

    @needs(Feature.FILES)
    async def test_a_message_with_only_a_file_gets_a_kind_answer(self, world: World) -> None:
        async with world.gateway() as gateway:
            asked = await world.platform.person_writes("", files=(File(),))
            await until(lambda: world.texts(asked))
            await until(lambda: gateway.idle)
            assert missing(say("only_files", "en"), world.texts(asked)) == ""
            assert not world.model.requests

    # Setting up

    async def test_declared_differences_are_true(self, world: World) -> None:
        async with world.gateway() as gateway:
            adapter, lacks = gateway.adapter(), world.platform.lacks
            for ability, feature in (
                (Heard, Feature.SILENCE),
                (CatchesUp, Feature.HISTORY),
                (FetchesFiles, Feature.FILES),
            ):
                assert isinstance(adapter, ability) is (feature not in lacks), feature
            asked = await world.platform.person_writes("hello")
            await world.answered(gateway, asked, "answer to: hello")
            reply = gateway.reply(gateway.store.accepted[0])
            assert isinstance(reply, CanEdit | CanStream) is (Feature.GROWTH not in lacks)
            assert world.platform.spec.reply is not None
            # the richest reply channel is for some places; what it promises about doubt holds everywhere
            assert isinstance(reply, CanFind) or not issubclass(world.platform.spec.reply, CanFind)
            assert all(reason.strip() for reason in lacks.values())

    async def test_a_sound_account_has_nothing_to_complain_of(self, world: World) -> None:
        async with world.gateway() as gateway:
            adapter = gateway.adapter()
            if isinstance(adapter, Diagnoses):
                assert list(await adapter.diagnose()) == []

    async def test_a_start_and_a_stop_leave_nothing_behind(self, world: World) -> None:
        for _ in range(3):
            async with world.gateway() as gateway:
                await until(lambda: gateway.state() is AccountState.CONNECTED)
            if Feature.LINK not in world.platform.lacks:
                await until(lambda: world.platform.links() == 0)

    async def test_stopping_in_the_middle_of_an_answer_leaves_nothing_behind(self, world: World) -> None:
        words = " ".join(f"word{number}" for number in range(40))
        world.model.configure(reply=f"={words}", token_delay=0.05, pieces_apart=True)
        async with world.gateway():
            asked = await world.platform.person_writes("hello")
            await until(lambda: any(request.answer for request in world.model.requests))
        async with world.gateway() as gateway:
            await until(lambda: world.told(asked, words))
            await until(lambda: gateway.idle)
            assert once(words, world.texts(asked))

    # Payloads

    def test_sample_payloads_are_read(self, platform: SimulatedPlatform) -> None:
        payloads = platform.payloads()
        read = [platform.parse(copy.deepcopy(payload)) for payload in payloads]
        assert any(read), "none of the payloads is a message"
        for message in filter(None, read):
            _check_message(message)

    @settings(max_examples=300, deadline=None, suppress_health_check=list(HealthCheck), derandomize=True)
    @given(data=st.data())
    def test_no_payload_makes_the_parser_fail(self, platform: SimulatedPlatform, data: st.DataObject) -> None:
        payload = copy.deepcopy(data.draw(st.sampled_from(list(platform.payloads()))))
        for _ in range(data.draw(st.integers(1, 3))):
            payload = _mutate(payload, data)
        message = platform.parse(payload)
        if message is not None:
            _check_message(message)


JUNK = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.text(max_size=20),
    st.sampled_from(["", "0", "-1", "\x00", "\ud800", "<@U1>", "9" * 40, "1e400", "2026-13-45T99:99:99Z"]),
    st.lists(st.integers(), max_size=2),
    st.dictionaries(st.text(max_size=5), st.integers(), max_size=2),
)


def _mutate(payload: Any, data: st.DataObject) -> Any:
    """One place of the payload is replaced, removed or doubled."""
    places = list(_places(payload))
    if not places:
        return data.draw(JUNK)
    holder, key = data.draw(st.sampled_from(places))
    match data.draw(st.sampled_from(("replace", "replace", "remove", "nest"))):
        case "replace":
            holder[key] = data.draw(JUNK)
        case "remove":
            del holder[key]
        case _:
            holder[key] = data.draw(st.sampled_from(([holder[key]], {"x": holder[key]})))
    return payload


def _places(value: Any) -> Iterator[tuple[Any, Any]]:
    if isinstance(value, dict):
        for key, inner in value.items():
            yield value, key
            yield from _places(inner)
    elif isinstance(value, list):
        for index, inner in enumerate(value):
            yield value, index
            yield from _places(inner)


def _check_message(message: InboundMessage) -> None:
    """It has the shape that the core relies on."""
    for text in (message.id, message.event, message.account, message.sender.id, message.channel, message.reply_to):
        assert isinstance(text, str)
        assert text
    assert message.thread is None or str(message.thread)
    assert isinstance(message.text, str)
    assert isinstance(message.is_direct, bool)
    assert isinstance(message.mentions_bot, bool)
    assert message.sent_at.tzinfo is not None
    assert all(attachment.size is None or attachment.size >= 0 for attachment in message.attachments)
    json.loads(message.reply_to)
    encode(message)


def _secrets(block: dict[str, Any]) -> list[str]:
    return [value for value in block.values() if isinstance(value, str) and len(value) > 8 and "://" not in value]


@asynccontextmanager
async def _serving(handler: Callable[[web.Request], Awaitable[web.StreamResponse]]) -> AsyncIterator[str]:
    """A server of somebody else on this machine."""
    app = web.Application()
    app.router.add_get("/{path:.*}", handler)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()
