"""Who may talk, decided on the command line and in the configuration, beside a running gateway and without one."""

from __future__ import annotations

import re
import signal

import aiohttp
import pytest

from tests.scenario.conftest import MakeGateway
from tests.scenario.gateway_process import Answered, GatewayProcess, assert_discreet, client

pytestmark = pytest.mark.process

ALICE = "local/alice"
CODE = re.compile(r"Your code is ([A-Z2-9]{8})\b")


@pytest.fixture
async def closed(make_gateway: MakeGateway) -> GatewayProcess:
    """A gateway whose API lets nobody in without a code, and which eve administers."""
    access = {"direct": "pairing", "admins": ["local/eve"]}
    gateway = await make_gateway(config={"accounts": {"api": {"access": access}}, "limits": {"exempt_admins": True}})
    await gateway.start()
    return gateway


def code_in(answer: Answered) -> str:
    """The code that a stranger was told."""
    found = CODE.search(answer.json["error"]["message"])
    assert found is not None, answer.text
    return found[1]


async def test_a_code_is_approved_on_the_command_line_while_the_gateway_runs(
    closed: GatewayProcess, http: aiohttp.ClientSession
) -> None:
    refused = await closed.chat(http, "hello")
    assert refused.status == 403
    code = code_in(refused)
    (waiting,) = (await closed.command("pairing", "list", "--json")).json
    assert (waiting["account"], waiting["user"], waiting["name"]) == ("api", ALICE, "alice")

    wrong = await closed.command("pairing", "approve", "ABCDEFGH")
    assert (wrong.code, wrong.out) == (1, "")
    assert "no code 'ABCDEFGH' is valid" in wrong.err
    approved = await closed.command("pairing", "approve", "api", code)
    assert (approved.code, approved.out) == (0, "local/alice (alice) on api may talk with the bot now\n")
    assert (await closed.chat(http, "hello")).json == {"response": "answer 1 to: hello"}

    assert await closed.stop() == 0
    (known,) = (await closed.command("people", "list", "--json")).json
    assert (known["user"], known["standing"], known["by"]) == (ALICE, "allowed", "command line")
    await closed.start()
    async with client() as again:
        assert (await closed.chat(again, "still there?")).status == 200
    assert not any(code.encode() in file.read_bytes() for file in closed.database.parent.iterdir() if file.is_file())
    assert_discreet(closed)
    assert not any(code in line for line in closed.lines)


async def test_an_admin_approves_in_the_chat_and_a_code_is_rejected_without_a_gateway(
    closed: GatewayProcess, http: aiohttp.ClientSession
) -> None:
    first, second = code_in(await closed.chat(http, "hello")), code_in(await closed.chat(http, "hello", "bob"))
    for _ in range(2):  # a repeated request is known by its text, though that is not kept
        body, headers = {"message": f"/approve {first}", "user": "eve"}, {"Idempotency-Key": "k1"}
        answer = await closed.post(http, "/chat", body, headers=headers)
        assert answer.json == {"response": "`local/alice` (`alice`) may talk with me now."}
    assert all(first.encode() not in file.read_bytes() for file in closed.database.parent.iterdir() if file.is_file())
    assert (await closed.chat(http, "hello")).status == 200
    assert await closed.stop() == 0
    rejected = await closed.command("pairing", "reject", second.lower())
    assert (rejected.code, rejected.out) == (0, "the code of local/bob (bob) on api is void\n")
    assert (await closed.command("pairing", "list")).out == "nobody waits to be let in\n"
    assert_discreet(closed)


async def test_people_are_kept_out_let_in_limited_and_forgotten_at_once(
    gateway: GatewayProcess, http: aiohttp.ClientSession
) -> None:
    assert (await gateway.chat(http, "hello")).status == 200
    assert (await gateway.command("people", "block", "api", ALICE)).out == f"{ALICE} on api is kept out from now on\n"
    assert (await gateway.chat(http, "hello")).status == 403
    assert (await gateway.command("people", "allow", "api", ALICE)).code == 0
    assert (await gateway.chat(http, "hello")).status == 200
    limited = ("people", "budget", "api", ALICE, "--messages-per-day", "2", "--money-per-month", "1.5")
    unpriced = await gateway.command(*limited)
    assert (unpriced.code, unpriced.out) == (1, "")
    assert "the price of 'test-model' is not known; add it to chat.prices" in unpriced.err
    gateway.configure({"chat": {"prices": {"test-model": {"input": 1, "output": 2}}}})
    gateway.signal(signal.SIGHUP)
    await gateway.logged("the configuration was reloaded")
    budget = await gateway.command(*limited)
    assert budget.out == (f"{ALICE} on api\nmessages per day: 2\ntokens per day: as configured\nmoney per month: 1.5\n")
    assert (await gateway.chat(http, "one too many")).status == 429
    assert (await gateway.command("people", "budget", "api", ALICE, "--default")).code == 0
    assert (await gateway.chat(http, "fine")).status == 200
    table = (await gateway.command("people", "list")).out
    assert re.search(r"api +local/alice +allowed +command line ", table)
    assert (await gateway.command("people", "forget", "api", ALICE)).code == 0
    unknown = await gateway.command("people", "allow", "apii", ALICE)
    assert (unknown.code, unknown.out) == (1, "")
    assert "there is no account 'apii' in the configuration; did you mean 'api'?" in unknown.err


async def test_access_and_budgets_take_effect_on_a_reload(gateway: GatewayProcess, http: aiohttp.ClientSession) -> None:
    assert (await gateway.chat(http, "hello")).status == 200
    gateway.configure({"accounts": {"api": {"access": {"direct": "allowlist", "allow": ["local/bob"]}}}})
    gateway.signal(signal.SIGHUP)
    line = await gateway.logged("the configuration was reloaded")
    assert line["changed"] == ["accounts.api.access.direct", "accounts.api.access.allow"]
    assert (await gateway.chat(http, "hello")).status == 403
    assert (await gateway.chat(http, "hello", "bob")).status == 200
    gateway.configure({"accounts": {"api": {"budget": {"messages_per_day": 2}}}})
    gateway.signal(signal.SIGHUP)
    await gateway.logged(
        "the configuration was reloaded",
        changed=["accounts.api.access.direct", "accounts.api.access.allow", "accounts.api.budget.messages_per_day"],
    )
    assert "these changes need a restart" not in gateway.events("warning")
