"""Strangers are told a code, and are let in once it is approved."""

from __future__ import annotations

import asyncio
import hashlib
import re
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from core.account import Access, AccountConfig
from core.adapter import FailureCode, Receipt
from core.errors import DeliveryUnavailable, StorageUnavailable
from core.messages import AccountId, Person, UserId
from tests.clock import HeldClock
from tests.core.gateway import WORK, Gateway, until
from tests.simulators.pager import Forms, Pager

PAIRING = {
    "work": AccountConfig(access=Access(direct="pairing", admins=("eve",))),
    "other": AccountConfig(access=Access(direct="pairing")),
}
CODE = re.compile(r"Your code is ([A-Z2-9]{8})\b")


def codes(gateway: Gateway, place: str = "home") -> list[str]:
    """The codes that were told in one place, oldest first."""
    return CODE.findall("\n".join(gateway.pager.texts(place)))


async def stranger(gateway: Gateway, user: str, **fields: str) -> str | None:
    """Somebody writes from a place of their own; the code that they were told last."""
    place = f"{user}-{fields.get('account', 'work')}"
    assert await gateway.hear("let me in", user=user, place=place, **fields) is Receipt.REFUSED
    await gateway.idle()
    told = codes(gateway, place)
    return told[-1] if told else None


@pytest.fixture
async def gateway(path: Path, clock: HeldClock) -> AsyncIterator[Gateway]:
    async with Gateway(path, clock, accounts=PAIRING) as gateway:
        yield gateway


async def test_a_stranger_is_told_a_code_an_admin_approves_it_and_they_may_talk(gateway: Gateway) -> None:
    code = await stranger(gateway, "ann")
    assert code is not None
    (notice,) = gateway.pager.texts("ann-work")
    assert f"`/approve {code}`" in notice
    assert f"`chatgpt-ms pairing approve {code}`" in notice
    assert "/approve" not in " ".join(gateway.model.questions)
    typed = f" {code[:4].lower()}-{code[4:]} "
    assert (await gateway.ask(f"/approve {typed}", user="eve", place="desk"))[
        -1
    ] == "`ann` (`Ann`) may talk with me now."
    assert (await gateway.ask("hello", user="ann", place="ann-work"))[-1] == "answer to hello"
    assert (await gateway.ask("/whoami", user="ann", place="ann-work"))[-1].endswith("You were let in by its admins.")


async def test_a_code_can_be_approved_once(gateway: Gateway) -> None:
    code = await stranger(gateway, "ann")
    await gateway.ask(f"/approve {code}", user="eve", place="desk")
    assert (await gateway.ask(f"/approve {code}", user="eve", place="desk"))[-1].startswith(
        "No such code is valid here"
    )


async def test_only_an_admin_can_approve_a_code_and_only_one_of_that_account(gateway: Gateway, path: Path) -> None:
    code = await stranger(gateway, "ann")
    foreign = await stranger(gateway, "ann", account="other")
    assert await gateway.hear(f"/approve {code}", user="ann", place="ann-work") is Receipt.REFUSED
    assert "No such code" in (await gateway.ask(f"/approve {foreign}", user="eve", place="desk"))[-1]
    assert await gateway.hear("hello", user="ann", place="ann-other", account="other") is Receipt.REFUSED
    await gateway.idle()
    assert gateway.people.all() == []


async def test_who_was_told_a_code_is_told_nothing_more_for_an_hour_and_then_a_fresh_one(
    gateway: Gateway, clock: HeldClock
) -> None:
    first = await stranger(gateway, "ann")
    await clock.advance(3599.0)
    await stranger(gateway, "ann")
    assert codes(gateway, "ann-work") == [first]
    await clock.advance(1.0)
    second = await stranger(gateway, "ann")
    assert codes(gateway, "ann-work") == [first, second]
    assert first != second
    assert "No such code" in (await gateway.ask(f"/approve {first}", user="eve", place="desk"))[-1]
    assert "may talk" in (await gateway.ask(f"/approve {second}", user="eve", place="desk"))[-1]


async def test_an_hour_old_code_is_void(gateway: Gateway, clock: HeldClock) -> None:
    code = await stranger(gateway, "ann")
    await clock.advance(3600.0)
    assert "No such code" in (await gateway.ask(f"/approve {code}", user="eve", place="desk"))[-1]
    assert await gateway.hear("hello", user="ann", place="ann-work") is Receipt.REFUSED
    await gateway.idle()


async def test_three_wait_and_the_fourth_is_told_to_come_back_until_there_is_room(
    gateway: Gateway, clock: HeldClock
) -> None:
    told = [await stranger(gateway, user) for user in ("ann", "bob", "joe")]
    assert None not in told
    for _ in range(3):
        assert await stranger(gateway, "zoe") is None
    (notice,) = gateway.pager.texts("zoe-work")
    assert "several people wait" in notice
    assert await stranger(gateway, "zoe", account="other") is not None  # each account has its own three
    await gateway.ask(f"/approve {told[0]}", user="eve", place="desk")
    assert await stranger(gateway, "zoe") is not None
    assert await stranger(gateway, "max") is None
    await clock.advance(3600.0)
    assert await stranger(gateway, "max") is not None


async def test_the_next_process_knows_who_waits(gateway: Gateway, path: Path, clock: HeldClock) -> None:
    code = await stranger(gateway, "ann")
    await gateway.crash()
    async with gateway.again() as later:
        await stranger(later, "ann")
        assert codes(later, "ann-work") == [code]
        await later.ask(f"/approve {code}", user="eve", place="desk")
        assert (await later.ask("hello", user="ann", place="ann-work"))[-1] == "answer to hello"
    async with later.again() as last:
        assert (await last.ask("hi", user="ann", place="ann-work"))[-1] == "answer to hi"


async def test_the_store_has_no_code_only_its_hash(gateway: Gateway, path: Path) -> None:
    code = await stranger(gateway, "ann")
    assert code is not None
    files = b"".join(file.read_bytes() for file in path.parent.iterdir() if file.is_file())
    assert hashlib.sha256(code.encode()).digest() in files
    assert code.encode() not in files


@pytest.mark.parametrize(
    ("text", "told"), [("hi", "You were let in: you may talk with me now."), ("你好", "您已获准，现在可以与我对话了。")]
)
async def test_whoever_was_let_in_is_told_so_once_in_their_language(gateway: Gateway, text: str, told: str) -> None:
    await gateway.hear(text, place="ann-work")
    await gateway.idle()
    (code,) = re.findall(r"`/approve (\w+)`", gateway.pager.texts("ann-work")[0])
    await gateway.ask(f"/approve {code}", user="eve", place="desk")
    await gateway.ask(f"/approve {code}", user="eve", place="desk")
    assert gateway.pager.texts("ann-work")[1:] == [told]
    assert gateway.pager.texts("desk") == ["`ann` (`Ann`) may talk with me now.", gateway.pager.texts("desk")[-1]]


async def test_the_next_process_tells_whom_it_lets_in(gateway: Gateway) -> None:
    code = await stranger(gateway, "ann")
    await gateway.crash()
    async with gateway.again() as later:
        request = await later.pairing.approve(code or "", by="command line")
        assert request is not None
        await later.idle()
        assert later.pager.texts("ann-work")[-1] == "You were let in: you may talk with me now."


@pytest.mark.parametrize("error", [DeliveryUnavailable("the platform is away"), ValueError("a mistake")])
async def test_whoever_cannot_be_told_is_let_in_all_the_same(gateway: Gateway, error: Exception) -> None:
    code = await stranger(gateway, "ann")
    gateway.pager.fail("send", error)
    await gateway.pairing.approve(code or "", by="command line")
    await gateway.idle()
    assert len(gateway.pager.texts("ann-work")) == 1
    assert (await gateway.ask("hello", place="ann-work"))[-1] == "answer to hello"


async def test_who_is_rejected_is_told_nothing(gateway: Gateway) -> None:
    code = await stranger(gateway, "ann")
    await gateway.pairing.reject(code or "", by="command line")
    await gateway.idle()
    assert len(gateway.pager.texts("ann-work")) == 1


async def test_a_caller_that_got_its_answer_is_told_nothing_more(path: Path, clock: HeldClock) -> None:
    async with Gateway(path, clock, Pager(Forms), accounts=PAIRING) as gateway:
        await gateway.hear("let me in")
        await gateway.idle()
        ((_, failure),) = gateway.pager.failures
        (code,) = CODE.findall(failure.text)
        await gateway.pairing.approve(code, by="command line")
        await gateway.idle()
        assert (len(gateway.pager.failures), gateway.pager.texts()) == (1, [])


@pytest.mark.parametrize("admin", ["eve", "lou"])
async def test_a_code_is_in_no_file_once_somebody_typed_it(gateway: Gateway, path: Path, admin: str) -> None:
    await gateway.people.allow(Person(WORK, UserId("lou")), by="eve")
    code = await stranger(gateway, "ann")
    assert code is not None
    answer = (await gateway.ask(f"/approve `{code}`", user=admin, place="desk"))[-1]
    assert (
        answer == {"eve": "`ann` (`Ann`) may talk with me now.", "lou": "Only an admin of this bot can do that."}[admin]
    )
    files = b"".join(file.read_bytes() for file in path.parent.iterdir() if file.is_file())
    assert code.encode() not in files
    assert b"/approve ********" in files


async def test_two_messages_at_once_bring_one_code(gateway: Gateway) -> None:
    messages = [gateway.message(text, place="ann-work") for text in ("one", "two", "three")]
    await asyncio.gather(*(gateway.inbox.receive(message) for message in messages))
    await gateway.idle()
    assert len(codes(gateway, "ann-work")) == len(gateway.pager.texts("ann-work")) == 1


async def test_a_code_that_could_not_be_told_is_void_and_the_next_message_brings_another(
    gateway: Gateway, clock: HeldClock
) -> None:
    gateway.pager.fail("send", DeliveryUnavailable("the platform is away"))
    assert await stranger(gateway, "ann") is None
    assert gateway.pairing.waiting() == []
    await clock.advance(60.0)
    assert await stranger(gateway, "ann") is not None


async def test_the_acknowledgement_does_not_wait_for_the_store(gateway: Gateway) -> None:
    gateway.journal.hold_before = "add_pairing"
    assert await gateway.hear("let me in", place="ann-work") is Receipt.REFUSED
    await gateway.journal.held.wait()
    assert gateway.pager.texts("ann-work") == []
    gateway.journal.go_on.set()
    await until(lambda: codes(gateway, "ann-work"))
    await gateway.idle()


async def test_a_store_that_fails_costs_a_stranger_nothing_but_a_minute(gateway: Gateway, clock: HeldClock) -> None:
    gateway.journal.errors["add_pairing"] = [StorageUnavailable("the disk is full")]
    assert await stranger(gateway, "ann") is None
    await clock.advance(60.0)
    assert await stranger(gateway, "ann") is not None


async def test_channels_need_no_code(gateway: Gateway) -> None:
    assert await gateway.inbox.receive(gateway.in_channel("hello", user="ann", channel="general")) is Receipt.ACCEPTED
    await gateway.idle()


async def test_who_is_kept_out_gets_no_code_and_loses_the_one_they_had(gateway: Gateway, clock: HeldClock) -> None:
    code = await stranger(gateway, "ann")
    assert "kept out" in (await gateway.ask("/block ann", user="eve", place="desk"))[-1]
    assert "No such code" in (await gateway.ask(f"/approve {code}", user="eve", place="desk"))[-1]
    await clock.advance(3600.0)
    await stranger(gateway, "ann")
    assert codes(gateway, "ann-work") == [code]
    assert "I may not talk with you here" in gateway.pager.texts("ann-work")[-1]


async def test_a_caller_that_waits_for_an_answer_gets_its_failure_each_time(path: Path, clock: HeldClock) -> None:
    async with Gateway(path, clock, Pager(Forms), accounts=PAIRING) as gateway:
        for _ in range(3):
            assert await gateway.hear("let me in") is Receipt.REFUSED
            await gateway.idle()
        failures = [failure for _, failure in gateway.pager.failures]
        assert [failure.code for failure in failures] == [FailureCode.NOT_ALLOWED] * 3
        assert [bool(CODE.search(failure.text)) for failure in failures] == [True, False, False]
        assert "still valid" in failures[1].text


async def test_in_chinese(gateway: Gateway) -> None:
    await gateway.hear("你好，让我进来", place="ann-work")
    await gateway.idle()
    (notice,) = gateway.pager.texts("ann-work")
    assert re.search(r"您的配对码是 [A-Z2-9]{8}，一小时内有效", notice)


async def test_refusals_are_told_once_an_hour_or_never_but_always_to_a_caller(path: Path, clock: HeldClock) -> None:
    silent = {"work": AccountConfig(access=Access(direct="allowlist", refusals="silent"))}
    async with Gateway(path, clock, accounts=silent) as gateway:
        assert await gateway.hear("hello") is Receipt.REFUSED
        await gateway.idle()
        assert gateway.pager.texts() == []
    async with Gateway(path, clock, Pager(Forms), accounts=silent) as gateway:
        assert await gateway.hear("hello") is Receipt.REFUSED
        await gateway.idle()
        assert [failure.code for _, failure in gateway.pager.failures] == [FailureCode.NOT_ALLOWED]


async def test_an_owner_is_an_admin(gateway: Gateway) -> None:
    gateway.owners[WORK] = UserId("olga")
    assert (await gateway.ask("/whoami", user="olga", place="desk"))[-1].endswith("You are an admin of this bot.")
    assert gateway.people.is_admin(Person(WORK, UserId("olga")))
    assert not gateway.people.is_admin(Person(AccountId("other"), UserId("olga")))
