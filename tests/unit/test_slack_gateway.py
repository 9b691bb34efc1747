"""Slack with the whole gateway around it: what the contract suite does not know of."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from slack_sdk.socket_mode.aiohttp import SocketModeClient
from slack_sdk.web.async_client import AsyncWebClient

from core.messages import Belongs
from gateway.checking import check_connections
from gateway.config import load
from gateway.supervisor import AccountState
from tests.contract.suite import hurry
from tests.contract.world import World, missing, until
from tests.simulators.faults import Fault
from tests.simulators.openai_server import OpenAIServer
from tests.simulators.slack import SimulatedSlack
from tests.simulators.slack_desk import KEY, desk
from tests.simulators.slack_state import SlackApp


@pytest.fixture(autouse=True)
def _hurry(monkeypatch: pytest.MonkeyPatch) -> None:
    hurry(monkeypatch)


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    async with OpenAIServer() as model, SimulatedSlack() as slack:
        yield World(slack, model, tmp_path)
        assert slack.state.complaints == []


def slack_of(world: World) -> SimulatedSlack:
    assert isinstance(world.platform, SimulatedSlack)
    return world.platform


def arguments(world: World, method: str) -> list[dict[str, Any]]:
    return [given for name, given in slack_of(world).state.calls if name == method]


async def test_in_a_thread_the_answer_is_streamed_to_who_asked(world: World) -> None:
    async with world.gateway() as gateway:
        world.model.configure(paused=True, end_held=True)
        asked = await world.platform.person_writes("hello", direct=False)
        await until(lambda: arguments(world, "assistant.threads.setStatus"))
        world.model.resume()
        await until(lambda: arguments(world, "chat.startStream"))
        world.model.configure(end_held=False)
        await world.answered(gateway, asked, "answer to: hello")
        (start,) = arguments(world, "chat.startStream")
        assert (start["recipient_user_id"], start["thread_ts"]) == ("U0ANN", asked.message)
        assert gateway.store.accepted[0].sender.display_name == "Ann"


async def test_a_sign_that_is_slower_than_the_answer_is_taken_away() -> None:
    """It would stay for two minutes: Slack takes away only what was there before the answer."""
    async with SimulatedSlack() as slack, desk(slack) as place:
        api, gate = slack.api, asyncio.Event()
        set_status = api._assistant_threads_setStatus

        async def held(app: SlackApp, arguments: dict[str, Any]) -> dict[str, Any]:
            await gate.wait()
            return await set_status(app, arguments)

        api._assistant_threads_setStatus = held  # type: ignore[method-assign]
        reply = place.reply()
        sign = asyncio.create_task(reply.typing())
        await until(lambda: place.calls("assistant.threads.setStatus"))
        await reply.send("hello", key=KEY)
        gate.set()
        await sign
        shown = [given["status"] for method, given in slack.state.calls if method == "assistant.threads.setStatus"]
        assert shown == ["is writing…", ""]


async def test_a_slash_command_is_answered_in_the_channel_with_its_question_shown(world: World) -> None:
    slack = slack_of(world)
    async with world.gateway() as gateway:
        asked = slack.command("what is up?")
        await until(lambda: world.told(asked, "answer to: what is up?"))
        await until(lambda: gateway.idle)
        assert slack.delivery.bodies[asked.event] == {"response_type": "in_channel"}
        again = slack.command("new")
        await until(lambda: slack.acknowledged(again))
        await until(lambda: "new conversation" in "".join(world.texts(again)))
        assert slack.delivery.bodies[again.event] is None


async def test_a_slash_command_from_where_the_bot_is_no_member_is_answered_to_its_person(world: World) -> None:
    slack = slack_of(world)
    slack.state.channel("private").closed_to.add("bot")
    async with world.gateway() as gateway:
        asked = slack.command("hello", channel="private")
        await until(lambda: world.told(asked, "answer to: hello"))
        await until(lambda: gateway.idle)
        (reply,) = slack.state.channels[asked.room].messages
        assert reply.ephemeral
        assert await gateway.store.dead_letters() == []


async def test_a_slash_command_that_cannot_be_stored_is_told_since_it_never_comes_again(world: World) -> None:
    slack = slack_of(world)
    async with world.gateway() as gateway:
        gateway.app.inbox.close()
        asked = slack.command("hello")
        await until(lambda: slack.acknowledged(asked))
        body = slack.delivery.bodies[asked.event]
        assert body is not None
        assert body["response_type"] == "ephemeral"
        assert body["text"]


async def test_the_stop_button_below_a_stream_stops_the_answer(world: World) -> None:
    slack = slack_of(world)
    words = " ".join(f"word{number}" for number in range(400))
    world.model.configure(reply=f"={words}", token_delay=0.03, pieces_apart=True)
    async with world.gateway() as gateway:
        asked = await world.platform.person_writes("tell", direct=False)
        await until(lambda: len(world.texts(asked)[:1]) and "word3" in world.texts(asked)[0])
        room = slack.state.channels[asked.room]
        answer = next(message for message in room.messages if message.app is not None)
        answer.stopped_by_user, answer.streaming = True, False
        shown = answer.text
        await until(lambda: gateway.idle)
        assert world.model.requests[0].hung_up
        assert answer.text == shown
        assert len([text for text in world.texts(asked) if "word" in text]) == 1


async def test_the_assistant_pane_has_suggestions_a_title_and_streams(world: World) -> None:
    slack = slack_of(world)
    world.changes = {"prompts": ["Write a haiku", "Explain a word"]}
    async with world.gateway() as gateway:
        room = slack.room("ann", "", True, "bot")
        root = slack.state.ts()
        from tests.simulators.slack_state import SlackMessage

        room.messages.append(SlackMessage(root, room.id, slack.state.user("ann"), "New conversation"))
        thread = {"user_id": "U0ANN", "context": {}, "channel_id": room.id, "thread_ts": root}
        slack.event({"type": "assistant_thread_started", "assistant_thread": thread, "event_ts": root})
        await until(lambda: arguments(world, "assistant.threads.setSuggestedPrompts"))
        (given,) = arguments(world, "assistant.threads.setSuggestedPrompts")
        assert [prompt["message"] for prompt in given["prompts"]] == ["Write a haiku", "Explain a word"]
        world.model.configure(end_held=True)
        asked = await world.platform.person_writes("Write a haiku", thread=root)
        await until(lambda: arguments(world, "chat.startStream"))
        world.model.configure(end_held=False)
        await until(lambda: world.told(asked, "answer to: Write a haiku"))
        await until(lambda: gateway.idle and arguments(world, "assistant.threads.setTitle"))
        assert arguments(world, "assistant.threads.setTitle")[0]["title"] == "Write a haiku"
        assert gateway.store.accepted[0].is_direct


async def test_two_events_of_one_mention_get_one_answer(world: World) -> None:
    async with world.gateway() as gateway:
        for number in range(10):
            await world.platform.person_writes(f"mention {number}", direct=False)
            await until(lambda: len(world.model.requests) > number)  # noqa: B023 - awaited here
        await until(lambda: gateway.idle)
        assert len(world.model.requests) == 10
        assert gateway.app.inbox.seen[gateway.store.accepted[0].account].duplicates >= 10
        assert max(slack_of(world).delivery.attempts.values()) == 1


@pytest.mark.parametrize("reason", ["warning", "refresh_requested"])
async def test_an_announced_end_is_bridged_by_a_second_connection(world: World, reason: str) -> None:
    """Nothing that comes meanwhile waits for a redelivery."""
    slack = slack_of(world)
    async with world.gateway() as gateway:
        for number in range(3):
            gate = gateway.store.gate = asyncio.Event()
            held = await world.platform.person_writes(f"held {number}", user="bob")
            await until(lambda: gateway.store.asked > 3 * number)  # noqa: B023 - awaited here
            before = slack.delivery.connected
            await slack.delivery.disconnect("bot", reason)
            await until(lambda: slack.delivery.connected > before)  # noqa: B023 - awaited here
            assert slack.links() == 2  # the old one still has something to acknowledge
            gate.set()
            await until(lambda: slack.links() == 1)
            assert slack.acknowledged(held) == 1
            assert slack.delivery.attempts[held.event] == 1
            asked = await world.platform.person_writes(f"after {number}")
            await world.answered(gateway, asked, f"answer to: after {number}")
            await world.fence(gateway)
        assert gateway.health().reconnects == 0


@pytest.mark.parametrize("reason", ["link_disabled", "too_many_websockets"])
async def test_an_end_without_remedy_is_left_to_the_pauses_of_the_supervisor(world: World, reason: str) -> None:
    slack = slack_of(world)
    async with world.gateway() as gateway:
        await world.fence(gateway)
        await slack.delivery.disconnect("bot", reason)
        await until(lambda: gateway.health().reconnects >= 1)
        async with asyncio.timeout(30):
            await until(lambda: slack.delivery.connected == 2)
        await world.fence(gateway)


async def test_the_sdks_own_client_never_comes_back_after_a_refused_handshake(world: World) -> None:
    """Why there is adapters/slack/link.py: it tries its spent ticket for ever."""
    slack = slack_of(world)
    app = slack.state.app("bot")
    slack.refuse_links(1)
    client = SocketModeClient(
        app_token=app.app_token,
        web_client=AsyncWebClient(app.bot_token, base_url=f"{slack.url}/api/"),
        ping_interval=0.05,
    )
    connecting = asyncio.create_task(client.connect())  # type: ignore[no-untyped-call]  # the SDK has no type for it
    await asyncio.sleep(0.5)
    assert not connecting.done()
    assert slack.links() == 0
    connecting.cancel()
    await client.close()  # type: ignore[no-untyped-call]  # the SDK has no type for it
    await asyncio.wait({connecting, asyncio.ensure_future(client.message_processor)})


async def test_an_uninstalled_app_fails_the_account(world: World) -> None:
    async with world.gateway() as gateway:
        slack_of(world).event({"type": "app_uninstalled"})
        await until(lambda: gateway.state() is AccountState.FAILED)
        assert "removed" in gateway.health().reason


async def test_a_login_page_is_not_taken_for_a_file(world: World) -> None:
    from core.adapter import FetchesFiles
    from core.errors import FileRefused
    from tests.contract.platform import File

    app = slack_of(world).state.app("bot")
    app.scopes.remove("files:read")
    async with world.gateway() as gateway:
        asked = await world.platform.person_writes("look", files=(File(),))
        await world.answered(gateway, asked, "answer to: look")
        adapter = gateway.adapter()
        assert isinstance(adapter, FetchesFiles)
        (attachment,) = gateway.store.accepted[0].attachments
        with pytest.raises(FileRefused, match="text/html"):
            await adapter.fetch(attachment, most_bytes=10_000)


async def test_a_file_of_another_organisation_is_looked_up_first(world: World) -> None:
    from core.adapter import FetchesFiles
    from tests.contract.platform import File

    async with world.gateway() as gateway:
        asked = await world.platform.person_writes("look", files=(File(),))
        await world.answered(gateway, asked, "answer to: look")
        adapter = gateway.adapter()
        assert isinstance(adapter, FetchesFiles)
        (attachment,) = gateway.store.accepted[0].attachments
        stub = slack_of(world).elsewhere(attachment, "")
        assert await adapter.fetch(stub, most_bytes=1000) == b"notes"


async def test_an_export_is_a_file_in_the_place_of_the_question(world: World) -> None:
    async with world.gateway() as gateway:
        asked = await world.platform.person_writes("hello")
        await world.answered(gateway, asked, "answer to: hello")
        await world.platform.person_writes("/export")
        await until(lambda: slack_of(world).state.contents and gateway.idle)
        (content,) = slack_of(world).state.contents.values()
        assert b"answer to: hello" in content


async def test_check_names_what_the_account_lacks(world: World, tmp_path: Path) -> None:
    slack = slack_of(world)
    block = slack.account()
    slack.state.app("bot").scopes.remove("im:history")
    config = tmp_path / "config.yaml"
    chat = {"base_url": world.model.url, "api_key": "sk-of-the-test", "model": "test-model"}
    accounts = {"api": "off", "web": "off", "bot": {"platform": "slack", **block}}
    config.write_text(json.dumps({"chat": chat, "server": {"port": 0}, "accounts": accounts}), encoding="utf-8")
    (fault,) = await check_connections(load(config, {}), tell=lambda line: None)
    assert "im:history" in fault
    assert "direct messages are not delivered" in fault
    slack.state.app("bot").scopes.append("im:history")
    async with world.gateway():
        (fault,) = await check_connections(load(config, {}), tell=lambda line: None)
        assert "another program is connected" in fault
    slack.refuse_credentials()
    (fault,) = await check_connections(load(config, {}), tell=lambda line: None)
    assert "bot_token" in fault
    assert block["bot_token"] not in fault


async def test_without_the_scope_for_history_a_send_in_doubt_is_marked(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    slack = slack_of(world)
    slack.account()
    slack.state.app("bot").scopes.remove("im:history")
    world.changes = {"stream": False}
    async with world.gateway() as gateway:
        slack.api.faults.append(Fault(("chat.postMessage",), "lost"))
        asked = await world.platform.person_writes("hello")
        await until(lambda: len(world.texts(asked)) == 2)
        await until(lambda: gateway.idle)
        first, second = world.texts(asked)
        assert missing("answer to: hello", [first]) == ""
        assert "may be repeated" in second


# ---- who may talk ----


def opened(slack: SimulatedSlack, user: str) -> str:
    """Somebody opens the assistant pane; the event's id."""
    room = slack.room(user, "", True, "bot")
    root = slack.state.ts()
    thread = {"user_id": slack.state.user(user), "context": {}, "channel_id": room.id, "thread_ts": root}
    return slack.event({"type": "assistant_thread_started", "assistant_thread": thread, "event_ts": root})


async def test_the_assistant_pane_suggests_nothing_to_those_who_may_not_talk(world: World) -> None:
    slack = slack_of(world)
    world.changes = {"prompts": ["Write a haiku"], "access": {"direct": "allowlist", "allow": ["U0BOB"]}}
    slack.state.guests.add(slack.state.user("gus"))
    async with world.gateway():
        first = [opened(slack, user) for user in ("ann", "gus")]
        await until(lambda: all(slack.delivery.acknowledged[id] for id in first))
        opened(slack, "bob")
        await until(lambda: arguments(world, "assistant.threads.setSuggestedPrompts"))
        (call,) = arguments(world, "assistant.threads.setSuggestedPrompts")
        assert call["channel_id"] == slack.room("bob", "", True, "bot").id


async def test_a_refusal_in_a_channel_is_seen_by_its_person_alone(world: World) -> None:
    slack = slack_of(world)
    world.changes = {"access": {"allow": ["U0BOB"]}}
    async with world.gateway() as gateway:
        asked = await world.platform.person_writes("hello", direct=False)
        await until(lambda: world.texts(asked))
        (call,) = arguments(world, "chat.postEphemeral")
        assert (call["user"], call.get("thread_ts")) == ("U0ANN", None), "there is no thread yet to show it in"
        assert "I may not talk" in call["markdown_text"]
        assert all(message.ephemeral for message in slack.state.channels[asked.room].messages if message.app)
        began = await world.platform.person_writes("hello", direct=False, user="bob")
        await until(lambda: world.told(began, "answer to: hello"))
        await until(lambda: gateway.idle)
        gateway.app.inbox._noticed.clear()
        await world.platform.person_writes("and I?", direct=False, thread=began.message)
        await until(lambda: len(arguments(world, "chat.postEphemeral")) == 2)
        assert arguments(world, "chat.postEphemeral")[1]["thread_ts"] == began.message


async def test_a_refusal_that_cannot_be_whispered_is_said(world: World) -> None:
    slack = slack_of(world)
    slack.api.faults.append(Fault(("chat.postEphemeral",), "user_not_in_channel", 0))
    world.changes = {"access": {"channels": "off"}}
    async with world.gateway():
        asked = await world.platform.person_writes("hello", direct=False)
        await until(lambda: world.texts(asked))
        (reply,) = world.replies(asked)
        assert reply.thread == asked.message
        assert not slack.state.channels[asked.room].messages[-1].ephemeral


async def test_the_slash_command_of_somebody_who_may_not_talk_is_shown_to_nobody(world: World) -> None:
    slack = slack_of(world)
    world.changes = {"access": {"channels": "off"}}
    async with world.gateway() as gateway:
        for count in (1, 2):  # each is told: it costs nobody a message
            asked = slack.command("what is up?")
            await until(lambda: len(world.texts(asked)) == count)  # noqa: B023 - awaited here
            assert slack.delivery.bodies[asked.event] is None, "the question is not shown in the channel"
        assert all(message.ephemeral for message in slack.state.channels[asked.room].messages)
        assert gateway.store.accepted == []


async def test_private_answers_to_slash_commands_are_seen_by_their_person_alone(world: World) -> None:
    slack = slack_of(world)
    async with world.gateway() as gateway:
        asked = slack.command("whoami")
        await until(lambda: "Your id is" in "".join(world.texts(asked)))
        await until(lambda: gateway.idle)
        assert [message.ephemeral for message in slack.state.channels[asked.room].messages] == [True]
        direct = slack.command("whoami", direct=True)
        await until(lambda: "Your id is" in "".join(world.texts(direct)))
        assert [message.ephemeral for message in slack.state.channels[direct.room].messages] == [False]


async def test_a_stop_is_that_of_who_asked_also_from_another_organisation(world: World) -> None:
    slack = slack_of(world)
    slack.state.foreign.add(slack.state.user("sam"))
    world.changes = {"access": {"guests": "open"}}
    words = " ".join(f"word{number}" for number in range(400))
    world.model.configure(reply=f"={words}", token_delay=0.03, pieces_apart=True)
    async with world.gateway() as gateway:
        asked = await world.platform.person_writes("tell", direct=False, user="sam")
        await until(lambda: len(world.texts(asked)[:1]) and "word3" in world.texts(asked)[0])
        room = slack.state.channels[asked.room]
        answer = next(message for message in room.messages if message.app is not None)
        answer.stopped_by_user, answer.streaming = True, False
        await until(lambda: gateway.idle)
        question, stop = gateway.store.accepted
        assert (stop.text, stop.sender.id) == ("/stop", "T0ELSEWHERE/U0SAM")
        assert stop.sender.belongs is question.sender.belongs is Belongs.EXTERNAL
        assert world.model.requests[0].hung_up
