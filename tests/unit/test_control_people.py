"""What the command line may ask about people, on the database itself: what is refused, and what scripts read."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from core.archive import Link
from core.clock import SystemClock
from core.errors import GatewayError
from core.messages import AccountId, Person, UserId
from core.pairing import Pairing
from core.people import People
from core.storage.sqlite import SqliteStore
from gateway.config import Config, load
from gateway.standalone import carry_out

Ask = Callable[..., Awaitable[Any]]
ANN = {"account": "api", "user": "local/ann"}


@pytest.fixture
def config(tmp_path: Path) -> Config:
    file = tmp_path / "config.yaml"
    file.write_text(
        f"storage: {{url: 'sqlite:{tmp_path}/test.db'}}\n"
        "accounts: {api: {access: {admins: [local/eve]}}, slack: {bot_token: ''}}\n"
    )
    return load(file, {})


@pytest.fixture
def ask(config: Config) -> Ask:
    async def ask(command: str, **arguments: Any) -> Any:
        return await carry_out(config, command, arguments)

    return ask


async def test_what_is_decided_is_what_scripts_read(ask: Ask) -> None:
    allowed = await ask("people.allow", **ANN)
    assert (allowed.pop("by"), bool(allowed.pop("at"))) == ("command line", True)
    budget = {"messages_per_day": None, "tokens_per_day": None, "money_per_month": None}
    assert allowed == {**ANN, "name": "", "standing": "allowed", **budget}
    changed = await ask("people.budget", **ANN, changes={"tokens_per_day": 5, "money_per_month": 0.5})
    assert (changed["standing"], changed["tokens_per_day"], changed["money_per_month"]) == ("allowed", 5, 0.5)
    changed = await ask("people.budget", **ANN, changes={"messages_per_day": 3}, default=True)
    assert (changed["messages_per_day"], changed["tokens_per_day"]) == (3, None)
    assert await ask("people.list") == await ask("people.list", account="api") == [changed]
    assert await ask("people.list", account="web") == []
    assert (await ask("people.block", **ANN))["standing"] == "blocked"
    assert await ask("people.forget", **ANN) == {**ANN, "forgotten": True}
    assert await ask("people.list") == []


async def test_a_budget_of_somebody_unknown_is_shown_and_decides_nothing(ask: Ask) -> None:
    shown = await ask("people.budget", **ANN, changes={})
    assert (shown["standing"], shown["messages_per_day"]) == ("undecided", None)
    assert await ask("people.list") == []


async def test_a_code_is_approved_or_rejected_for_any_account_or_for_the_one_that_is_named(
    ask: Ask, config: Config
) -> None:
    clock = SystemClock()
    async with SqliteStore(config.storage.path, clock=clock) as store:
        pairing = Pairing(store, People(store, clock, is_admin=lambda _: False), clock)
        codes = [
            (await pairing.offer(Person(AccountId("api"), UserId(user)), user)).code
            for user in ("local/ann", "local/bob")
        ]
    with pytest.raises(GatewayError, match=f"no code '{codes[0]}' is valid"):
        await ask("pairing.approve", code=codes[0], account="web")
    assert (await ask("pairing.approve", code=codes[0], account="api"))["user"] == "local/ann"
    assert [waiting["user"] for waiting in await ask("pairing.list")] == ["local/bob"]
    assert (await ask("pairing.reject", code=codes[1]))["user"] == "local/bob"
    assert [(known["user"], known["name"]) for known in await ask("people.list")] == [("local/ann", "local/ann")]


async def test_letting_somebody_in_by_their_id_ends_their_waiting(ask: Ask, config: Config) -> None:
    clock = SystemClock()
    async with SqliteStore(config.storage.path, clock=clock) as store:
        pairing = Pairing(store, People(store, clock, is_admin=lambda _: False), clock)
        await pairing.offer(Person(AccountId("api"), UserId("local/ann")), "Ann")
    await ask("people.allow", **ANN)
    assert await ask("pairing.list") == []


@pytest.mark.parametrize(
    ("command", "arguments", "text"),
    [
        ("people.allow", {"account": "apii", "user": "local/ann"}, "there is no account 'apii' in the configuration; did you mean 'api'?"),
        ("people.block", {"account": "API", "user": "local/ann"}, "did you mean 'api'?"),
        ("people.list", {"account": "x"}, "there are api, web, slack"),
        ("pairing.list", {"account": "slak"}, "did you mean 'slack'?"),
        ("usage", {"account": "slak"}, "there is no account 'slak' in the configuration; did you mean 'slack'?"),
        ("usage", {"account": ""}, "there is no account '' in the configuration; there are api, web, slack"),
        ("links.list", {"account": "wed"}, "did you mean 'web'?"),
        ("sessions.list", {"account": "appi"}, "did you mean 'api'?"),
        ("pairing.approve", {"code": "ABCDEFGH"}, "no code 'ABCDEFGH' is valid"),
        ("people.block", {"account": "api", "user": "local/eve"}, "take the id out of accounts.api.access.admins first"),
        ("people.forget", ANN, "nothing was decided about 'local/ann' on 'api'"),
        ("people.allow", {"account": "api", "user": " "}, "not a person's id: ' '"),
        ("people.allow", {"account": "api", "user": "a\nb"}, "not a person's id: 'a\\nb'"),
        ("people.allow", {"account": "api", "user": "x" * 201}, "at most 200 characters"),
        ("people.block", {"account": "api", "user": "bob"}, "not a person's id: 'bob'; ids are NAMESPACE/USER"),
        ("trace", {"id": 999}, "there is no message 999"),
        ("people.allow", {"account": "api", "user": "@bob"}, "a name is not a person's id: '@bob'; ids are NAMESPACE/USER"),
        ("people.block", {"account": "web", "user": " `@bob`"}, "`/whoami` shows a person's own"),
        ("people.block", {"account": "slack", "user": "<@U0BOB>"}, "a name is not a person's id: '<@U0BOB>'; `/whoami`"),
        ("people.budget", {"account": "api", "user": "@bob", "changes": {}}, "a name is not a person's id"),
        ("people.budget", {**ANN, "changes": {"tokens_per_day": 10**13}}, "tokens_per_day: got 10000000000000"),
        ("people.budget", {**ANN, "changes": {"money_per_month": float("nan")}}, "money_per_month: got nan"),
    ],
)  # fmt: skip
async def test_what_cannot_be_is_refused_with_the_way_out(
    ask: Ask, command: str, arguments: dict[str, Any], text: str
) -> None:
    with pytest.raises(GatewayError, match=re.escape(text)) as caught:
        await ask(command, **arguments)
    assert caught.value.exit_code == 1
    assert await ask("people.list") == []


async def test_a_name_is_refused_with_where_that_platform_shows_ids(tmp_path: Path) -> None:
    file = tmp_path / "config.yaml"
    file.write_text(
        f"storage: {{url: 'sqlite:{tmp_path}/test.db'}}\n"
        "accounts: {team: {platform: slack, bot_token: xoxb-1, app_token: xapp-1}, dingtalk: {client_id: a, client_secret: b}}\n"
    )
    config = load(file, {})
    for account, name, place in (
        ("team", "@bob", "Copy member ID (U… or W…)"),
        ("team", "Bob", "Copy member ID (U… or W…)"),
        ("dingtalk", "@bob", "员工 UserID"),
    ):
        with pytest.raises(GatewayError, match=re.escape(place)):
            await carry_out(config, "people.block", {"account": account, "user": name})
    assert (await carry_out(config, "people.block", {"account": "team", "user": "T0123/U0456"}))[
        "user"
    ] == "T0123/U0456"


async def test_ids_that_begin_with_an_at_sign_are_no_names(ask: Ask) -> None:
    web = {"account": "web", "user": "@7c2e5b0a9d"}
    assert (await ask("people.block", **web))["user"] == "@7c2e5b0a9d"


async def test_money_is_not_limited_where_nobody_knows_what_a_model_costs(tmp_path: Path) -> None:
    file = tmp_path / "config.yaml"
    file.write_text(
        f"storage: {{url: 'sqlite:{tmp_path}/test.db'}}\n"
        "chat: {base_url: 'http://127.0.0.1:9/v1', model: mine, models: [gpt-5-mini, other]}\n"
    )
    config = load(file, {})
    money = {"money_per_month": 5.0}
    with pytest.raises(GatewayError, match=r"the price of 'mine', 'other' is not known; add it to chat\.prices"):
        await carry_out(config, "people.budget", {**ANN, "changes": money})
    with pytest.raises(GatewayError, match=r"chat\.prices"):
        await carry_out(config, "people.budget", {**ANN, "changes": money, "default": True})
    assert await carry_out(config, "people.list", {}) == []
    assert (await carry_out(config, "people.budget", {**ANN, "changes": {"tokens_per_day": 5}}))["tokens_per_day"] == 5


async def test_an_account_that_left_the_configuration_is_known_by_what_is_stored_of_it(
    ask: Ask, config: Config
) -> None:
    clock, gone, kept = (
        SystemClock(),
        Person(AccountId("old"), UserId("local/ann")),
        Person(AccountId("web"), UserId("anna")),
    )
    async with SqliteStore(config.storage.path, clock=clock) as store:
        await store.add_link(Link(person=gone, to=kept, linked_at=clock.now()))
        await People(store, clock, is_admin=lambda _: False).block(gone, by="eve")
    assert [link["user"] for link in await ask("links.list", account="old")] == ["local/ann"]
    assert [known["user"] for known in await ask("people.list", account="old")] == ["local/ann"]
    with pytest.raises(GatewayError, match="there is no account 'old'"):
        await ask("usage", account="old")
    assert await ask("usage", account="slack") == []


async def test_a_linked_person_s_budget_is_set_for_whom_they_pay_as(ask: Ask, config: Config) -> None:
    clock, ann, anna = (
        SystemClock(),
        Person(AccountId("api"), UserId("local/ann")),
        Person(AccountId("web"), UserId("anna")),
    )
    async with SqliteStore(config.storage.path, clock=clock) as store:
        await store.add_link(Link(person=ann, to=anna, linked_at=clock.now()))
    with pytest.raises(GatewayError, match="chatgpt-ms people budget web anna"):
        await ask("people.budget", **ANN, changes={"tokens_per_day": 5})
    assert (await ask("people.budget", account="web", user="anna", changes={"tokens_per_day": 5}))[
        "tokens_per_day"
    ] == 5
