"""Every command, beside a running gateway and without one, as a script and as a person in a terminal use it."""

from __future__ import annotations

import asyncio
import json
import re
import signal
from collections.abc import AsyncIterator

import aiohttp
import pytest

from tests.scenario.conftest import MakeGateway
from tests.scenario.gateway_process import MODEL_KEY, GatewayProcess, assert_discreet, client
from tests.scenario.terminal import CTRL_C, CTRL_D, Terminal
from tests.simulators.openai_server import OpenAIServer

pytestmark = pytest.mark.process

ALICE = "api/u:local%2Falice"


@pytest.fixture(params=["running", "stopped"])
async def used(request: pytest.FixtureRequest, gateway: GatewayProcess, http: aiohttp.ClientSession) -> GatewayProcess:
    """A gateway that alice and bob have talked with, which runs or has been stopped since."""
    for text, user in (("one", "alice"), ("a canary-bird", "alice"), ("hello", "bob")):
        assert (await gateway.chat(http, text, user)).status == 200
    if request.param == "stopped":
        assert await gateway.stop() == 0
    return gateway


@pytest.fixture
async def alike(gateway: GatewayProcess) -> AsyncIterator[aiohttp.ClientSession]:
    """A client for what a test asks of a gateway that was started again."""
    async with client() as session:
        yield session


async def test_sessions_are_listed_shown_exported_and_cleared(used: GatewayProcess) -> None:
    listed = await used.command("sessions", "list", "--json")
    assert [(row["key"], row["turns"], row["title"]) for row in listed.json] == [
        ("api/u:local%2Fbob", 1, "hello"),
        (ALICE, 2, "one"),
    ]
    table = (await used.command("sessions", "list")).out
    assert re.search(r"api/u:local%2Falice +alice +2 ", table)
    shown = (await used.command("sessions", "show", ALICE, "--json")).json
    assert [(turn["question"], turn["answer"], turn["state"]) for turn in shown["turns"]] == [
        ("one", "answer 1 to: one", "complete"),
        ("a canary-bird", "answer 2 to: a canary-bird", "complete"),
    ]
    assert "> one\n  answer 1 to: one" in (await used.command("sessions", "show", ALICE)).out
    file = used.folder / "alice.json"
    assert (await used.command("sessions", "export", ALICE, "-o", str(file))).code == 0
    assert json.loads(file.read_text()) == shown
    assert file.stat().st_mode & 0o077 == 0
    again = await used.command("sessions", "export", ALICE, "-o", str(file))
    assert (again.code, again.err) == (1, f"chatgpt-ms: {str(file)!r}: File exists\n")
    assert (await used.command("sessions", "clear", ALICE, "--json")).json == {"cleared": ALICE}
    cleared = (await used.command("sessions", "list", "--json")).json
    assert {row["key"]: row["turns"] for row in cleared} == {ALICE: 0, "api/u:local%2Fbob": 1}


async def test_a_cleared_session_is_new_at_once(
    gateway: GatewayProcess, http: aiohttp.ClientSession, model: OpenAIServer
) -> None:
    await gateway.chat(http, "one")
    await gateway.command("sessions", "clear", ALICE)
    assert (await gateway.chat(http, "two")).json == {"response": "answer 1 to: two"}


async def test_what_is_forgotten_is_in_no_file(used: GatewayProcess) -> None:
    asked = await used.command("sessions", "forget", ALICE, input="n\n")
    assert (asked.code, "aborted" in asked.err.lower()) == (130, True)
    assert any(b"canary-bird" in file.read_bytes() for file in used.database.parent.iterdir() if file.is_file())
    forgotten = await used.command("sessions", "forget", ALICE, "--yes", "--json")
    assert forgotten.json == {"forgotten": ALICE, "turns": 2}
    for file in used.database.parent.iterdir():
        if file.is_file():
            assert b"canary-bird" not in file.read_bytes(), file
    assert [row["key"] for row in (await used.command("sessions", "list", "--json")).json] == ["api/u:local%2Fbob"]
    if used.running:
        await used.kill()
        await used.start()
        assert all(b"canary-bird" not in file.read_bytes() for file in used.database.parent.iterdir() if file.is_file())


async def test_keys_are_made_listed_and_revoked(used: GatewayProcess, alike: aiohttp.ClientSession) -> None:
    made = (await used.command("keys", "create", "phone", "--namespace", "family", "--json")).json
    text = (await used.command("keys", "create", "watch", "--scope", "chat", "--scope", "admin")).out
    assert re.match(r"cms-\S{43}\n\nKeep it: it is not shown again\. Its id is [0-9a-f]{8}", text)
    listed = (await used.command("keys", "list", "--json")).json
    assert [(key["name"], key["namespace"], key["scopes"], key["revoked_at"]) for key in listed][:1] == [
        ("phone", "family", ["chat"], None)
    ]
    assert made["secret"] not in json.dumps(listed)
    if not used.running:
        await used.start()
    # they are asked for from now on, without a restart
    assert (await used.chat(alike, "hi")).status == 401
    headers = {"Authorization": f"Bearer {made['secret']}"}
    body = {"message": "hi", "user": "alice"}
    assert (await used.post(alike, "/chat", body, headers=headers)).json == {"response": "answer 1 to: hi"}
    assert (await used.command("keys", "revoke", made["id"], "--json")).json == {"revoked": made["id"]}
    assert (await used.post(alike, "/chat", body, headers=headers)).status == 401
    again = await used.command("keys", "revoke", made["id"])
    assert (again.code, "no valid key" in again.err) == (1, True)
    assert made["secret"] not in "\n".join(used.lines)


async def test_a_backup_can_be_started_from(
    used: GatewayProcess, make_gateway: MakeGateway, alike: aiohttp.ClientSession
) -> None:
    target = used.folder / "backup.db"
    result = await used.command("backup", str(target), "--json")
    assert result.json == {"backup": str(target), "bytes": target.stat().st_size}
    assert target.stat().st_mode & 0o077 == 0
    again = await used.command("backup", str(target))
    assert (again.code, "exists; name a new file" in again.err) == (2, True)
    restored = await make_gateway("restored")
    restored.database.parent.mkdir()
    target.rename(restored.database)
    await restored.start()
    assert (await restored.chat(alike, "still me")).json == {"response": "answer 3 to: still me"}


async def test_a_dead_letter_is_listed_and_answered_when_it_is_retried(
    make_gateway: MakeGateway, http: aiohttp.ClientSession, model: OpenAIServer
) -> None:
    gateway = await make_gateway(config={"accounts": {"old": {"platform": "api"}, "api": "off"}})
    await gateway.start()
    model.pause()
    asking = asyncio.create_task(gateway.chat(http, "anybody?"))
    await model.until(lambda server: len(server.requests) == 1)
    await gateway.kill()
    await asyncio.gather(asking, return_exceptions=True)
    model.resume()
    old, gateway.sections["accounts"] = gateway.sections["accounts"], {}
    gateway.configure({})
    await gateway.start()
    await gateway.logged("a turn failed")
    letters = (await gateway.command("deadletters", "list", "--json")).json
    assert [(letter["id"], letter["account"], letter["text"]) for letter in letters] == [("in-1", "old", "anybody?")]
    assert "account 'old' is not configured any more" in letters[0]["reason"]
    trace = (await gateway.command("trace", "1", "--json")).json
    assert [step["what"] for step in trace][:2] == ["received", "turn started"]
    assert await gateway.stop() == 0
    assert "in-1" in (await gateway.command("deadletters", "list")).out

    gateway.configure({"accounts": old})
    await gateway.start()
    assert (await gateway.command("deadletters", "retry", "in-1", "--json")).json == {"retried": "in-1"}
    await model.until(lambda server: server.requests[-1].finished and len(server.requests) == 2)
    assert (await gateway.chat(http, "again")).json == {"response": "answer 2 to: again"}
    assert (await gateway.command("deadletters", "list", "--json")).json == []
    missing = await gateway.command("deadletters", "retry", "in-1")
    assert (missing.code, "there is no dead letter 'in-1'" in missing.err) == (1, True)


async def test_what_does_not_exist_is_said_in_one_line(gateway: GatewayProcess) -> None:
    for arguments, text in (
        (("sessions", "show", "api/u:nobody"), "there is no session 'api/u:nobody'; `chatgpt-ms sessions list` shows"),
        (("sessions", "clear", "nonsense?"), "not a conversation key: 'nonsense?'; `chatgpt-ms sessions list` shows"),
        (("sessions", "show", "a/b"), "not a conversation key: 'a/b'"),
        (("deadletters", "retry", "x"), "there is no dead letter 'x'"),
        (("keys", "create", "x", "--namespace", "UPPER"), "namespace 'UPPER': use up to 63 of a-z"),
        (("backup", "/no/such/folder/x.db"), "cannot create"),
    ):
        result = await gateway.command(*arguments)
        assert result.code in (1, 2)
        assert (result.out, result.err.count("\n")) == ("", 1)
        assert result.err.startswith("chatgpt-ms: ")
        assert text in result.err


# check, platforms, help


async def test_check_says_every_fault_at_once(make_gateway: MakeGateway) -> None:
    gateway = await make_gateway()
    gateway.file.write_text(
        "chat: {modell: x, api_key: k}\nserver: {host: 0.0.0.0}\nlimits:\n  queued: none\naccounts: {web: {scop: user}}\n"
    )
    result = await gateway.command("check")
    assert (result.code, result.out) == (2, "")
    lines = result.err.splitlines()
    assert [re.sub(r"chatgpt-ms: \S+/config\.yaml(:\d+): (\S+?):? .*", r"\1 \2", line) for line in lines] == [
        ":1 chat.modell",
        ":2 server",
        ":4 limits.queued",
        ":5 accounts.web.scop",
    ]
    assert "model" in lines[0]
    assert "scope" in lines[3]


async def test_check_with_connect_signs_in(make_gateway: MakeGateway, model: OpenAIServer) -> None:
    gateway = await make_gateway()
    fine = await gateway.command("check", "--connect")
    assert (fine.code, fine.err) == (0, "")
    assert fine.out.splitlines() == [
        f"model: test-model at {model.url} answers",
        "the configuration is fine",
    ]
    model.configure(api_key="sk-another")
    wrong = await gateway.command("check", "--connect")
    assert wrong.code == 2
    assert wrong.err.startswith("chatgpt-ms: chat: ")
    assert_discreet(gateway, wrong.err, wrong.out)


async def test_the_nearest_command_is_named(make_gateway: MakeGateway) -> None:
    gateway = await make_gateway()
    for wrong, near in (("session", "sessions"), ("strat", None), ("chek", "check")):
        result = await gateway.command(wrong, config=False)
        assert result.code == 2
        assert (f"there is no command {wrong!r}; did you mean {near!r}?" in result.err) is (near is not None)
        assert "Traceback" not in result.err


async def test_platforms_help_and_version(make_gateway: MakeGateway) -> None:
    gateway = await make_gateway()
    rows = {row["platform"]: row for row in (await gateway.command("platforms", "--json", config=False)).json}
    assert rows["api"]["stream"] is True
    assert rows["web"]["edit"] is not None
    table = (await gateway.command("platforms", config=False)).out
    assert re.search(r"^ *api +.*yes", table, re.MULTILINE)
    assert re.match(r"chatgpt-ms, version \d+\.\d+\.\d+\n", (await gateway.command("--version", config=False)).out)
    for command in ("", "run", "check", "init", "chat", "platforms", "sessions", "keys", "deadletters", "backup"):
        assert (await gateway.command(*filter(None, [command]), "--help", config=False)).out.startswith(
            "Usage: chatgpt-ms"
        )


# init


async def test_init_asks_and_writes_a_configuration_that_works(
    make_gateway: MakeGateway, http: aiohttp.ClientSession, model: OpenAIServer
) -> None:
    gateway = await make_gateway()
    gateway.file.unlink()
    model.configure(api_key=MODEL_KEY)
    async with Terminal("init", folder=gateway.folder, environ=gateway.environ) as terminal:
        for question, answer in (
            ("Who answers", "server"),
            ("Its address", model.url),
            ("Its key", MODEL_KEY),
            ("The model", "test-model"),
            ("How should it behave", "Be brief: yes, {really}"),
            ("Should other machines", "n"),
            ("Port", "5123"),
        ):
            await terminal.shows(question)
            await terminal.shows(": ")
            terminal.type(answer + "\n")
        await terminal.shows("config.yaml is written. Start with: chatgpt-ms run --config config.yaml")
        assert await terminal.ended() == 0
        assert MODEL_KEY not in terminal.shown
    assert gateway.file.stat().st_mode & 0o077 == 0
    written = gateway.file.read_text()
    gateway.file.write_text(written.replace("5123", "0"))
    await gateway.start()
    assert (await gateway.chat(http, "hi")).json == {"response": "answer 1 to: hi"}
    assert model.requests[-1].messages[0]["content"] == "Be brief: yes, {really}"
    assert await gateway.stop() == 0

    second = await gateway.command("init", config=False)
    assert (second.code, "exists already and is not overwritten" in second.err) == (2, True)
    assert gateway.file.read_text() == written.replace("5123", "0")


async def test_init_for_other_machines_makes_a_key(make_gateway: MakeGateway) -> None:
    gateway = await make_gateway()
    gateway.file.unlink()
    gateway.environ["OPENAI_API_KEY"] = MODEL_KEY
    result = await gateway.command("init", "-o", "public.yaml", input="openai\n\n\ny\n\n", config=False)
    assert result.code == 0
    (key,) = re.findall(r"ask for this key: (cms-\S+)", result.out)
    written = (gateway.folder / "public.yaml").read_text()
    assert key in written
    assert "host: 0.0.0.0" in written
    assert MODEL_KEY not in written  # it stays in the environment
    assert (await gateway.command("check", "-c", "public.yaml", config=False)).code == 0


# chat


@pytest.mark.parametrize("beside", [True, False], ids=["running", "stopped"])
async def test_a_conversation_in_the_terminal(make_gateway: MakeGateway, model: OpenAIServer, beside: bool) -> None:
    gateway = await make_gateway()
    if beside:
        await gateway.start()
    async with Terminal("chat", folder=gateway.folder, environ=gateway.environ) as terminal:
        await terminal.shows("you> ")
        terminal.type("hello\n")
        await terminal.shows("answer 1 to: hello\n")
        await terminal.shows("you> ")

        model.configure(reply="=" + " ".join(f"word-{number}" for number in range(100_000)), token_delay=0.01)
        terminal.type("talk without end\n")
        await terminal.shows("word-3")  # it is shown while it is written
        terminal.type(CTRL_C)
        await terminal.shows("you> ")
        await model.until(lambda server: server.requests[-1].hung_up)  # and nobody pays for the rest

        model.configure(reply="count", token_delay=0.0)
        terminal.type("/status\n")
        await terminal.shows("Turns in this conversation: 2")
        await terminal.shows("you> ")
        model.configure(reply="=\x1b[2Jred \x9b31m alert")
        terminal.type("hack\n")
        assert "alert" in await terminal.shows("alert") + "alert"
        await terminal.shows("you> ")
        terminal.type(CTRL_D)
        assert await terminal.ended() == 0
    assert "\ufffd[2Jred" in terminal.shown
    if beside:
        assert await gateway.stop() == 0
        assert gateway.events("warning", "error") == []


async def test_ctrl_c_at_the_prompt_ends_the_conversation(make_gateway: MakeGateway) -> None:
    gateway = await make_gateway()
    async with Terminal("chat", folder=gateway.folder, environ=gateway.environ) as terminal:
        await terminal.shows("you> ")
        terminal.type(CTRL_C)
        assert await terminal.ended() == 130
        assert "Traceback" not in terminal.shown


async def test_a_second_ctrl_c_ends_a_conversation_that_hangs(make_gateway: MakeGateway, model: OpenAIServer) -> None:
    gateway = await make_gateway()
    await gateway.start()
    async with Terminal("chat", folder=gateway.folder, environ=gateway.environ) as terminal:
        await terminal.shows("you> ")
        terminal.type("hello\n")
        await terminal.shows("answer 1 to: hello\n")
        await terminal.shows("you> ")
        model.pause()
        terminal.type("anybody?\n")
        await model.until(lambda server: len(server.requests) == 2)
        gateway.signal(signal.SIGSTOP)
        terminal.type(CTRL_C)
        await terminal.shows("Ctrl-C again to leave")
        terminal.type(CTRL_C)
        assert await terminal.ended() == 130
    gateway.signal(signal.SIGCONT)


async def test_chat_in_a_pipe_answers_line_by_line(make_gateway: MakeGateway, model: OpenAIServer) -> None:
    gateway = await make_gateway()
    result = await gateway.command("chat", "--user", "script", input="one\n\ntwo")
    assert (result.code, result.out) == (0, "answer 1 to: one\n\nanswer 2 to: two\n\n")
    model.configure(faults=[{"kind": "status", "status": 500}])
    failed = await gateway.command("chat", "--user", "script", input="three\n")
    assert (failed.code, failed.out) == (1, "")
    assert "I can't reach the model right now" in failed.err


async def test_chat_tells_how_to_give_a_key_and_needs_none_without_a_gateway(make_gateway: MakeGateway) -> None:
    gateway = await make_gateway()
    await gateway.start()
    key = (await gateway.command("keys", "create", "mine", "--json")).json["secret"]
    without = await gateway.command("chat", input="hi\n")
    assert (without.code, "--key or CHATGPT_MS_KEY" in without.err) == (1, True)
    assert (await gateway.command("chat", "--key", key, input="hi\n")).out == "answer 1 to: hi\n\n"
    assert await gateway.stop() == 0
    assert (await gateway.command("chat", input="hi\n")).out == "answer 1 to: hi\n\n"


async def test_chat_without_a_gateway_leaves_the_messages_of_others_alone(
    make_gateway: MakeGateway, http: aiohttp.ClientSession, model: OpenAIServer
) -> None:
    gateway = await make_gateway(config={"accounts": {"team": {"platform": "api"}, "api": "off"}})
    await gateway.start()
    model.pause()
    asking = asyncio.create_task(gateway.chat(http, "for the team", key="k"))
    await model.until(lambda server: len(server.requests) == 1)
    await gateway.kill()
    await asyncio.gather(asking, return_exceptions=True)
    model.resume()
    team, gateway.sections["accounts"] = gateway.sections["accounts"], {}
    gateway.configure({})
    assert (await gateway.command("chat", input="mine\n")).out == "answer 1 to: mine\n\n"
    assert (await gateway.command("deadletters", "list", "--json")).json == []
    gateway.configure({"accounts": team})
    await gateway.start()
    assert (await gateway.chat(http, "for the team", key="k")).json == {"response": "answer 1 to: for the team"}
