"""What admins decide in a chat, and who is an admin."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest

from core.access import Standing
from core.account import Access, AccountConfig
from core.adapter import Receipt
from core.archive import PersonBudget
from core.commands.names import FOR_ADMINS
from core.errors import StorageUnavailable
from core.messages import AccountId, Person, Sender, UserId
from tests.clock import HeldClock
from tests.core.gateway import WORK, Gateway

ANN = Person(WORK, UserId("ann"))
ACCOUNTS = {
    "work": AccountConfig(access=Access(direct="allowlist", admins=("eve",), allow=("lou", "general"))),
    "other": AccountConfig(),
}


class Numbered(AccountConfig):
    """A platform where ids are numbers."""

    ID = re.compile("[0-9]+")


@pytest.fixture
async def gateway(path: Path, clock: HeldClock) -> AsyncIterator[Gateway]:
    async with Gateway(path, clock, accounts=ACCOUNTS) as gateway:
        yield gateway


async def told(gateway: Gateway, text: str, user: str = "eve", **fields: str) -> str:
    """What somebody reads after a command."""
    return (await gateway.ask(text, user=user, place=user, **fields))[-1]


@pytest.mark.parametrize("command", sorted(FOR_ADMINS))
async def test_only_admins_may_give_the_admin_commands(gateway: Gateway, command: str) -> None:
    assert await told(gateway, f"/{command} ann".removesuffix(" ann" * (command == "access")), user="lou") == (
        "Only an admin of this bot can do that."
    )
    assert gateway.people.all() == []


async def test_an_admin_of_one_account_is_none_of_another(gateway: Gateway) -> None:
    assert await told(gateway, "/block ann", account="other") == "Only an admin of this bot can do that."


async def test_somebody_is_let_in_and_kept_out_at_once(gateway: Gateway) -> None:
    assert await gateway.hear("hello") is Receipt.REFUSED
    assert await told(gateway, "/allow ann") == "`ann` may talk with me now."
    assert (await gateway.ask("hello", place="desk")) == ["answer to hello"]
    assert await told(gateway, "/block ann") == "`ann` is kept out from now on."
    assert await gateway.hear("hello") is Receipt.REFUSED
    await gateway.idle()
    known = gateway.people.known(ANN)
    assert known is not None
    assert (known.standing, known.decided_by) == (Standing.BLOCKED, "eve in the chat")


async def test_the_next_process_keeps_out_whom_this_one_kept_out(gateway: Gateway) -> None:
    await told(gateway, "/block lou")
    await gateway.crash()
    async with gateway.again() as later:
        assert await later.hear("hello", user="lou") is Receipt.REFUSED
        assert await told(later, "/allow lou") == "`lou` may talk with me now."
        assert await later.hear("hello", user="lou") is Receipt.ACCEPTED
        await later.idle()


async def test_what_was_decided_holds_on_that_account_alone(gateway: Gateway) -> None:
    await told(gateway, "/block ann")
    assert await gateway.hear("hello", account="other") is Receipt.ACCEPTED
    await gateway.idle()


async def test_nobody_can_keep_an_admin_out(gateway: Gateway) -> None:
    gateway.owners[WORK] = UserId("olga")
    for admin in ("eve", "olga"):
        assert "is an admin, so I can't keep them out" in await told(gateway, f"/block {admin}")
    assert gateway.people.all() == []
    await gateway.people.block(Person(WORK, UserId("eve")), by="an earlier configuration")
    assert await told(gateway, "/whoami") == (
        "Your id is `eve` on the account `work`. This conversation: `work/u:eve`. You are an admin of this bot."
    )


@pytest.mark.parametrize(
    "id", ["", " ", "a\nb", "a\x00b", "\u202eann", "a" * 201, "``", "@Bob", "@deadbeef", "<@U0BOB>"]
)
@pytest.mark.parametrize("command", ["allow", "block", "budget"])
async def test_what_is_no_id_is_refused(gateway: Gateway, command: str, id: str) -> None:
    text = await told(gateway, f"/{command} {id}")
    assert "I need somebody's id" in text or "Please send" in text
    assert gateway.people.all() == []


async def test_where_ids_are_found_is_said_in_the_admin_s_language(gateway: Gateway) -> None:
    assert "`/access`, `chatgpt-ms people list` and `chatgpt-ms sessions list`" in await told(gateway, "/block @Bob")
    assert "`/权限`、`chatgpt-ms people list` 和 `chatgpt-ms sessions list`" in await told(gateway, "/封禁 @Bob")


async def test_whose_waiting_messages_are_answered_still(gateway: Gateway) -> None:
    gateway.model.will(hold := asyncio.Event(), "done")
    await gateway.hear("running", user="lou", place="lou")
    await gateway.hear("waiting", user="lou", place="lou")
    await gateway.hear("/block lou", user="eve", place="eve")
    hold.set()
    await gateway.idle()
    assert gateway.pager.texts("lou") == ["done", "answer to waiting"]
    assert await gateway.hear("more", user="lou", place="lou") is Receipt.REFUSED
    await gateway.idle()


async def test_access_lists_what_holds_and_who_is_known(gateway: Gateway, clock: HeldClock) -> None:
    gateway.owners[WORK] = UserId("olga")
    await gateway.people.allow(ANN, by="eve", name="Ann `the` Great\n")
    await gateway.people.block(Person(WORK, UserId("bob")), by="eve")
    await gateway.people.allow(Person(AccountId("other"), UserId("zoe")), by="eve")
    await gateway.pairing.offer(Person(WORK, UserId("joe")), "Joe")
    await clock.advance(600)
    assert (await told(gateway, "/access")).splitlines() == [
        "**Who may talk with me on `work`**",
        "",
        "- Direct messages: `allowlist` · channels: `mention` · guests: `allowlist` · refusals: `notice`",
        "- Listed in the configuration: `lou`, `general`",
        "- Admins: `eve`, `olga`",
        "- Let in: `ann` (`Ann the Great`)",
        "- Kept out: `bob`",
        "- Waiting to be let in: `joe` (`Joe`), 10 min",
    ]


async def test_access_is_bounded_however_many_are_known(gateway: Gateway) -> None:
    for number in range(50):
        await gateway.people.allow(Person(WORK, UserId(f"p{number:02}")), by="eve")
    text = await told(gateway, "/access")
    assert "`p19`, and 30 more" in text
    assert "p20" not in text


async def test_a_budget_is_shown_set_in_part_and_taken_back(gateway: Gateway) -> None:
    usual = (
        "The budget of `ann`: messages a day: as configured; tokens a day: as configured; money a month: as configured."
    )
    assert await told(gateway, "/budget ann") == usual
    assert gateway.people.all() == []
    assert await told(gateway, "/budget ann tokens=50,000 messages=100") == (
        "The budget of `ann`: messages a day: 100; tokens a day: 50000; money a month: as configured."
    )
    await told(gateway, "/budget ann money=2.5 Messages=default")
    assert gateway.people.budget(ANN) == PersonBudget(tokens_per_day=50_000, money_per_month=2.5)
    known = gateway.people.known(ANN)
    assert known is not None
    assert known.standing is Standing.UNDECIDED
    assert await told(gateway, "/budget ann default") == usual
    assert gateway.people.budget(ANN) == PersonBudget()


@pytest.mark.parametrize("change", ["money=5", "MONEY=5 tokens=5", "default money=5"])
async def test_money_is_not_limited_where_nobody_knows_what_models_cost(gateway: Gateway, change: str) -> None:
    gateway.limits.settings = replace(gateway.limits.settings, unpriced=("mine", "other"))
    assert await told(gateway, f"/budget ann {change}") == (
        "I can't count money: nobody told me the price of `mine`, `other`. "
        "It belongs into the configuration, under `chat.prices`."
    )
    assert "不知道 `mine`、`other` 的价格" in await told(gateway, f"/额度 ann {change}")
    assert gateway.people.all() == []


async def test_where_money_is_limited_already_the_rest_of_a_budget_is_changed_whatever_models_cost(
    gateway: Gateway,
) -> None:
    await told(gateway, "/budget ann money=5")
    gateway.limits.settings = replace(gateway.limits.settings, unpriced=("mine",))
    assert "tokens a day: 5; money a month: 5." in await told(gateway, "/budget ann tokens=5")
    assert "tokens a day: 5; money a month: as configured." in await told(gateway, "/budget ann money=default")


@pytest.mark.parametrize("changes", ["tokens=5", "default", "money=5 tokens=5", "messages"])
async def test_what_is_to_be_set_is_nobody_s_id(gateway: Gateway, changes: str) -> None:
    assert (await told(gateway, f"/budget {changes}")).startswith("Please send `/budget ID`")
    assert gateway.people.all() == []


async def test_what_is_no_id_on_that_platform_is_refused(gateway: Gateway) -> None:
    gateway.accounts = {**gateway.accounts, "work": Numbered(access=Access(admins=("eve",)))}
    assert "I need somebody's id" in await told(gateway, "/block Bob")
    assert await told(gateway, "/block 42") == "`42` is kept out from now on."


async def test_an_id_with_blanks_can_have_a_budget(gateway: Gateway) -> None:
    await told(gateway, "/budget ann of the hill tokens=5")
    assert gateway.people.budget(Person(WORK, UserId("ann of the hill"))).tokens_per_day == 5


@pytest.mark.parametrize(
    "change",
    [
        "token=5",
        "money:=5",
        "tokens",
        "tokens=0",
        "tokens=-1",
        "tokens=1.5",
        "tokens=",
        "money=nan",
        "money=inf",
        "money=0",
        f"tokens={10**13}",
    ],
)
async def test_a_budget_that_makes_no_sense_changes_nothing(gateway: Gateway, change: str) -> None:
    assert (await told(gateway, f"/budget ann messages=5 {change}")).startswith("Please send `/budget ID`")
    assert gateway.people.all() == []


async def test_a_decision_that_cannot_be_stored_does_not_hold(gateway: Gateway) -> None:
    gateway.journal.errors["keep_person"] = [StorageUnavailable("the disk is full")]
    with pytest.raises(StorageUnavailable):
        await gateway.people.allow(ANN, by="eve")
    assert gateway.people.standing(ANN) is Standing.UNDECIDED


async def test_in_chinese(gateway: Gateway) -> None:
    sender = Sender(id=UserId("eve"), locale="zh-CN")
    (text,) = await gateway.ask("/允许 ann", user="eve", sender=sender, place="desk")
    assert text == "`ann` 现在可以与我对话了。"
    assert "已开通：`ann`" in (await gateway.ask("/权限", user="eve", sender=sender, place="desk"))[-1]


async def test_whoami_tells_why_somebody_may_talk(gateway: Gateway) -> None:
    assert (await told(gateway, "/whoami", user="lou")).endswith("You are on its list of those who may talk with me.")
    await told(gateway, "/allow ann")
    assert (await told(gateway, "/whoami", user="ann")).endswith("You were let in by its admins.")
    assert (await told(gateway, "/whoami", user="zoe", account="other")).endswith("`other/u:zoe`.")


async def test_a_linked_person_s_budget_is_decided_where_they_pay(gateway: Gateway) -> None:
    other = Person(AccountId("other"), UserId("anna"))
    code = await gateway.links.offer(other, "Anna")
    assert isinstance(code, str)
    await gateway.links.enter(ANN, "Ann", code)
    gateway.links.answered(other)
    await gateway.links.confirm(other)
    assert gateway.links.person(*ANN) == other
    assert await told(gateway, "/budget ann tokens=5") == (
        "`ann` is linked with another account, and one budget holds for both: it is decided there."
    )
    assert gateway.people.all() == []
