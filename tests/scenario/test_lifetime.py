"""How the gateway starts, reloads, runs out of disk, and stops."""

from __future__ import annotations

import asyncio
import resource
import signal
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from tests.scenario.conftest import MakeGateway
from tests.scenario.gateway_process import Answered, GatewayProcess, assert_discreet, until
from tests.simulators.openai_server import OpenAIServer

pytestmark = pytest.mark.process


async def ask_all(gateway: GatewayProcess, http: aiohttp.ClientSession, keys: list[str]) -> list[Answered]:
    """One message by each user for each key `user/number`, all at once."""
    return list(
        await asyncio.gather(*(gateway.chat(http, f"message {key}", key.partition("/")[0], key=key) for key in keys))
    )


async def test_one_line_tells_what_took_how_long_at_the_start(gateway: GatewayProcess) -> None:
    line = await gateway.logged("started")
    steps = ("config", "storage", "accounts", "model", "server")
    assert all(0 <= line[step] < 10 for step in steps)
    assert set(line["sign_in"]) == {"api", "web"}
    assert line["not_connected"] == []


async def test_a_stop_finishes_what_runs_and_leaves_what_waits_to_the_next_start(
    gateway: GatewayProcess, http: aiohttp.ClientSession, model: OpenAIServer, capsys: pytest.CaptureFixture[str]
) -> None:
    model.pause()
    users = [f"user-{number}" for number in range(10)]
    keys = [f"{user}/{number}" for user in users for number in range(3)]
    asking = asyncio.create_task(ask_all(gateway, http, keys))
    await model.until(lambda server: len(server.requests) == len(users))  # the first of each user runs
    await until_accepted(gateway, http, len(keys))
    gateway.signal(signal.SIGTERM)
    await gateway.logged("stopping")
    with pytest.raises(aiohttp.ClientConnectorError):
        async with aiohttp.ClientSession() as late:
            await gateway.get(late, "/healthz")
    model.resume()
    answers = await asking
    assert await gateway.ended() == 0

    first = {status: [one for one in answers if one.status == status] for status in (200, 503)}
    assert (len(first[200]), len(first[503])) == (10, 20)
    assert all(one.json["error"]["code"] in ("closed", "overloaded") for one in first[503])
    assert all("Retry-After" in one.headers for one in first[503])
    assert gateway.events("error", "critical") == []
    await gateway.start()
    again = await ask_all(gateway, http, keys)
    with capsys.disabled():
        print(f"\nR10: {len(keys)} messages, {len(first[200])} answered in the stop, all {len(again)} after it")
    assert [one.status for one in again] == [200] * len(keys)
    asked = [request.last for request in model.requests]
    assert sorted(asked) == sorted(f"message {key}" for key in keys)  # none twice
    for answer, before in zip(again, answers, strict=True):
        assert before.status == 503 or answer.text == before.text
    assert_discreet(gateway)


async def until_accepted(gateway: GatewayProcess, http: aiohttp.ClientSession, count: int) -> None:
    """Wait until /metrics counts so many accepted messages."""
    wanted = f'chatgpt_ms_messages_total{{account="api",receipt="accepted"}} {float(count)}'
    async with asyncio.timeout(60):
        while wanted not in (await gateway.get(http, "/metrics")).text:
            await asyncio.sleep(0.02)


async def test_a_second_sigterm_stops_at_once_and_loses_nothing(
    gateway: GatewayProcess, http: aiohttp.ClientSession, model: OpenAIServer
) -> None:
    model.pause()
    asking = asyncio.create_task(gateway.chat(http, "hello", key="k"))
    await model.until(lambda server: len(server.requests) == 1)
    gateway.signal(signal.SIGTERM)
    await gateway.logged("stopping")
    await until(lambda: gateway.signals_until_ended(signal.SIGTERM))
    assert await gateway.ended() == 1
    with pytest.raises(aiohttp.ClientError):
        await asking
    assert gateway.events("warning", "error") == ["stopped at once; unfinished work is taken up at the next start"]
    model.resume()
    await gateway.start()
    assert (await gateway.chat(http, "hello", key="k")).json == {"response": "answer 1 to: hello"}


async def test_one_signal_that_arrives_twice_is_one(
    gateway: GatewayProcess, http: aiohttp.ClientSession, model: OpenAIServer
) -> None:
    model.pause()
    asking = asyncio.create_task(gateway.chat(http, "hello"))
    await model.until(lambda server: len(server.requests) == 1)
    gateway.signal(signal.SIGINT)
    gateway.signal(signal.SIGTERM)  # as from a terminal and from `timeout`
    await gateway.logged("stopping")
    model.resume()
    assert (await asking).json == {"response": "answer 1 to: hello"}
    assert await gateway.ended() == 0


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=lambda number: number.name)
async def test_an_idle_gateway_stops_with_0_and_tidies_up(gateway: GatewayProcess, number: signal.Signals) -> None:
    gateway.signal(number)
    assert await gateway.ended() == 0
    assert sorted(path.name for path in gateway.database.parent.iterdir()) == ["chatgpt-ms.db", "chatgpt-ms.db.lock"]
    assert gateway.events()[-1] == "stopped"


async def test_a_client_that_keeps_its_connection_open_does_not_delay_the_stop(
    gateway: GatewayProcess, http: aiohttp.ClientSession
) -> None:
    assert (await gateway.get(http, "/healthz")).status == 200  # the connection stays open
    loop = asyncio.get_running_loop()
    started = loop.time()
    assert await gateway.stop() == 0
    assert loop.time() - started < 20  # the grace for running turns is 30 s


async def test_a_new_gateway_is_ready_only_when_it_can_answer(
    make_gateway: MakeGateway, http: aiohttp.ClientSession
) -> None:
    gateway = await make_gateway()
    for _ in range(3):
        await gateway.start()
        readiness = await gateway.get(http, "/readyz")
        assert (readiness.status, readiness.json["ready"]) == (200, True)
        assert (await gateway.chat(http, "at once")).status == 200
        await gateway.kill()


# Reload


async def prompts(model: OpenAIServer) -> tuple[str, str]:
    """The system prompt and the model of the last request."""
    last = model.requests[-1]
    return last.messages[0]["content"], last.body["model"]


@pytest.mark.parametrize("by", ["SIGHUP", "the file alone"])
async def test_a_changed_configuration_takes_effect(
    gateway: GatewayProcess, http: aiohttp.ClientSession, model: OpenAIServer, by: str
) -> None:
    await gateway.chat(http, "one")
    changes: dict[str, dict[str, Any]] = {
        "chat": {"system_prompt": "You are a pirate.", "model": "another-model"},
        "limits": {"max_input_chars": 5},
        "server": {"port": 1},
        "storage": {"retention": "1d"},
    }
    gateway.configure(changes)
    if by == "SIGHUP":
        gateway.signal(signal.SIGHUP)
    changed = await gateway.logged("the configuration was reloaded")
    assert sorted(changed["changed"]) == ["chat.model", "chat.system_prompt", "limits.max_input_chars"]
    later = await gateway.logged("these changes need a restart")
    assert sorted(later["changed"]) == ["server.port", "storage.retention"]
    assert (await gateway.chat(http, "two")).status == 200
    assert await prompts(model) == ("You are a pirate.", "another-model")
    assert (await gateway.chat(http, "three's a crowd")).status == 413
    assert (await gateway.get(http, "/v1/models")).json["data"][0]["id"] == "another-model"


async def test_a_faulty_file_changes_nothing(
    gateway: GatewayProcess, http: aiohttp.ClientSession, model: OpenAIServer
) -> None:
    good = gateway.file.read_text()
    gateway.file.write_text(good + "chat: {modell: x}\n")
    gateway.signal(signal.SIGHUP)
    line = await gateway.logged("the changed configuration is faulty; the former one stays in force")
    assert len(line["faults"]) > 0
    assert (await gateway.chat(http, "one")).status == 200
    gateway.file.unlink()
    gateway.signal(signal.SIGHUP)
    await until(lambda: gateway.events("error").count(line["event"]) >= 2)
    assert (await gateway.chat(http, "two")).json == {"response": "answer 2 to: two"}
    gateway.file.write_text(good)
    gateway.signal(signal.SIGHUP)
    await gateway.logged("the configuration has not changed")
    assert_discreet(gateway)


async def test_conversations_go_on_across_a_reload(
    gateway: GatewayProcess, http: aiohttp.ClientSession, model: OpenAIServer
) -> None:
    model.pause()
    asking = asyncio.create_task(gateway.chat(http, "one"))
    await model.until(lambda server: len(server.requests) == 1)
    gateway.configure({"sessions": {"max_turns": 1}})
    gateway.signal(signal.SIGHUP)
    await gateway.logged("the configuration was reloaded")
    model.resume()
    assert (await asking).json == {"response": "answer 1 to: one"}
    assert (await gateway.chat(http, "two")).json == {"response": "answer 2 to: two"}
    assert (await gateway.chat(http, "three")).json == {"response": "answer 2 to: three"}  # one earlier turn


# The control socket


async def test_what_a_killed_gateway_left_beside_the_database_does_no_harm(gateway: GatewayProcess) -> None:
    note = gateway.database.with_name("chatgpt-ms.db.control")
    await gateway.kill()
    assert note.exists()
    assert (await gateway.command("sessions", "list", "--json")).json == []  # nobody listens there: it opens the file
    note.write_text("nonsense\0")
    assert (await gateway.command("sessions", "list", "--json")).json == []
    note.write_text("/" + "x" * 200)
    assert (await gateway.command("sessions", "list", "--json")).json == []
    await gateway.start()
    assert (await gateway.command("sessions", "list", "--json")).json == []
    assert await gateway.stop() == 0
    assert not note.exists()


async def test_a_database_far_down_the_folders_has_a_control_socket_too(
    make_gateway: MakeGateway, http: aiohttp.ClientSession
) -> None:
    gateway = await make_gateway()
    gateway.database = gateway.folder / ("deep-" * 12) / ("down-" * 12) / "chatgpt-ms.db"
    gateway.configure({"storage": {"url": f"sqlite:{gateway.database}"}})
    assert len(str(gateway.database)) > 107
    await gateway.start()
    await gateway.chat(http, "hello")
    note = gateway.database.with_name("chatgpt-ms.db.control")
    socket = Path(note.read_text())
    assert (await gateway.command("sessions", "list", "--json")).json[0]["turns"] == 1
    assert await gateway.stop() == 0
    assert not note.exists()
    assert not socket.parent.exists()


async def test_commands_beside_a_working_gateway_do_not_disturb_it(
    gateway: GatewayProcess, http: aiohttp.ClientSession
) -> None:
    async def talk(user: str) -> list[int]:
        return [(await gateway.chat(http, f"message {number}", user)).status for number in range(20)]

    async def look(*arguments: str) -> int:
        return (await gateway.command(*arguments)).code

    *talks, listed, backed_up, dead = await asyncio.gather(
        *(talk(f"user-{number}") for number in range(5)),
        look("sessions", "list", "--json"),
        look("backup", str(gateway.folder / "backup.db")),
        look("deadletters", "list", "--json"),
    )
    assert talks == [[200] * 20] * 5
    assert (listed, backed_up, dead) == (0, 0, 0)


# Disk full


async def test_a_full_disk_refuses_messages_and_recovers_by_itself(
    gateway: GatewayProcess, http: aiohttp.ClientSession, model: OpenAIServer
) -> None:
    assert (await gateway.chat(http, "before", key="before")).status == 200
    _, most = resource.prlimit(gateway.pid, resource.RLIMIT_FSIZE)
    resource.prlimit(gateway.pid, resource.RLIMIT_FSIZE, (1024, most))  # every write fails from here on
    answer = await gateway.chat(http, "meanwhile", key="meanwhile")
    assert (answer.status, answer.json["error"]["code"]) == (503, "storage_unavailable")
    assert "Retry-After" in answer.headers
    readiness = await gateway.get(http, "/readyz")
    assert (readiness.status, readiness.json["storage"]) == (503, "unavailable")
    assert (await gateway.get(http, "/healthz")).status == 200
    assert (await gateway.get(http, "/metrics")).status == 200
    assert [request.last for request in model.requests] == ["before"]  # what is not stored is not asked
    resource.prlimit(gateway.pid, resource.RLIMIT_FSIZE, (most, most))
    await gateway.logged("storage is available again")
    assert (await gateway.get(http, "/readyz")).status == 200
    assert (await gateway.chat(http, "meanwhile", key="meanwhile")).json == {"response": "answer 2 to: meanwhile"}
    assert (await gateway.chat(http, "before", key="before")).json == {"response": "answer 1 to: before"}
    assert gateway.events("error") == ["storage cannot be written; trying again"]  # once, not for each message
    assert_discreet(gateway)


async def test_an_answer_that_comes_while_the_disk_is_full_is_not_lost(
    gateway: GatewayProcess, http: aiohttp.ClientSession, model: OpenAIServer
) -> None:
    model.pause()
    asking = asyncio.create_task(gateway.chat(http, "hello"))
    await model.until(lambda server: len(server.requests) == 1)
    _, most = resource.prlimit(gateway.pid, resource.RLIMIT_FSIZE)
    resource.prlimit(gateway.pid, resource.RLIMIT_FSIZE, (1024, most))
    model.resume()
    await gateway.logged("storage cannot be written; trying again")
    resource.prlimit(gateway.pid, resource.RLIMIT_FSIZE, (most, most))
    assert (await asking).json == {"response": "answer 1 to: hello"}
    assert len(model.requests) == 1
    await gateway.kill()
    await gateway.start()
    assert (await gateway.chat(http, "again")).json == {"response": "answer 2 to: again"}


async def test_a_second_gateway_on_the_same_database_refuses_and_the_first_notices_nothing(
    gateway: GatewayProcess, make_gateway: MakeGateway, http: aiohttp.ClientSession
) -> None:
    assert (await gateway.chat(http, "before")).status == 200
    second = await make_gateway("second", config={"storage": {"url": f"sqlite:{gateway.database}"}})
    await second.spawn()
    assert await second.ended() == 2
    (line,) = second.lines
    assert f"process {gateway.pid}" in line
    assert "storage.url" in line
    assert (await gateway.get(http, "/readyz")).status == 200
    assert (await gateway.chat(http, "after")).json == {"response": "answer 2 to: after"}
    assert gateway.events("error", "critical") == []


async def test_a_database_that_is_damaged_while_it_runs_is_reported_and_not_started_from_again(
    gateway: GatewayProcess, http: aiohttp.ClientSession, model: OpenAIServer
) -> None:
    assert (await gateway.chat(http, "before")).status == 200
    assert await gateway.stop() == 0
    await gateway.start()
    with gateway.database.open("r+b") as file:
        for page in range(1, gateway.database.stat().st_size // 4096):
            file.seek(page * 4096)
            file.write(b"\xa5" * 4096)
    for number in range(3):
        answer = await gateway.chat(http, "after", f"user-{number}")
        assert (answer.status, answer.json["error"]["code"]) == (503, "storage_unavailable")
    readiness = await gateway.get(http, "/readyz")
    assert (readiness.status, readiness.json["storage"]) == (503, "unavailable")
    assert (await gateway.get(http, "/metrics")).status == 200
    asked = await gateway.command("sessions", "list")
    assert asked.code > 0
    assert "is damaged; stop the program and restore a backup" in asked.err
    assert await gateway.stop() == 0
    assert gateway.events("critical") == ["the database is damaged; stop the program and restore a backup"]
    await gateway.spawn()
    assert await gateway.ended() == 78
    assert len(model.requests) == 1
    assert_discreet(gateway)
