"""One person on two accounts: how they are linked, what they share then, and what stays apart."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from core.account import AccountConfig
from core.adapter import Receipt, SenderIsClaimed
from core.commands.linking import identity
from core.delivery import RETRY_AFTER
from core.errors import ChatUnavailable, DeliveryError, DeliveryUnavailable, HeldBack, StorageUnavailable
from core.journal import PartId
from core.links import MOST_TRIES
from core.messages import AccountId, Person, Quoted, Scope, Sender, UserId
from tests.clock import HeldClock
from tests.core.gateway import Gateway, until
from tests.simulators.pager import Attaches, PagerReply

CODE = re.compile(r"`/link ([A-HJ-NP-Z2-9]{8})`")
ANN, ANNA = Person(AccountId("work"), UserId("ann")), Person(AccountId("club"), UserId("anna"))


@pytest.fixture
def accounts() -> dict[str, AccountConfig]:
    return {"work": AccountConfig(), "club": AccountConfig(), "site": AccountConfig()}


@pytest.fixture
async def gateway(path: Path, clock: HeldClock, accounts: dict[str, AccountConfig]) -> AsyncIterator[Gateway]:
    async with Gateway(path, clock, accounts=accounts) as gateway:
        yield gateway


async def ask(gateway: Gateway, person: Person, text: str, **fields: Any) -> str:
    """What is said to that, in the place where it was asked."""
    fields = {"place": f"{person.account}/{person.user}", **fields}
    return (await gateway.ask(text, user=person.user, account=person.account, **fields))[-1]


async def code_of(gateway: Gateway, person: Person) -> str:
    found = CODE.search(await ask(gateway, person, "/link"))
    assert found is not None
    return found[1]


async def link(gateway: Gateway, root: Person = ANN, other: Person = ANNA) -> None:
    code = await code_of(gateway, root)
    assert "This is the code of" in await ask(gateway, other, f"/link {code}")
    assert "was entered by" in await ask(gateway, root, "/link")
    assert (await ask(gateway, root, "/link yes")).startswith("Linked with")


def written(gateway: Gateway) -> bytes:
    """The database's files as they are."""
    return b"".join(file.read_bytes() for file in gateway.path.parent.iterdir() if file.is_file())


def history(gateway: Gateway) -> list[str]:
    """What people have said before, in the newest prompt."""
    return [message.content for message in gateway.model.prompts[-1] if message.role == "user"][:-1]


# Linking


async def test_both_sides_agree_and_the_conversation_goes_on_from_both(gateway: Gateway) -> None:
    await ask(gateway, ANN, "my cat is called Tom")
    await ask(gateway, ANNA, "something else")
    code = await code_of(gateway, ANN)
    told = await ask(gateway, ANNA, f"/link {code}")
    assert told.startswith(
        "This is the code of `Ann` (`ann` on `work`). If that is you, send `/link` on `work` to confirm"
    )
    assert (await ask(gateway, ANN, "/link")).startswith("Your code was entered by `Anna` (`anna` on `club`). If that")
    assert (await ask(gateway, ANN, "/link yes")).startswith("Linked with `Anna` (`anna` on `club`).")
    assert await ask(gateway, ANNA, "who is Tom?") == "answer to who is Tom?"
    assert history(gateway) == ["my cat is called Tom"]
    await ask(gateway, ANN, "and now?")
    assert history(gateway) == ["my cat is called Tom", "who is Tom?"]


async def test_unlinking_on_either_side_brings_each_one_s_own_conversation_back(gateway: Gateway) -> None:
    for side, said in (
        (ANNA, "You are no longer linked."),
        (ANN, "Nothing is linked with this conversation any more;"),
    ):
        await ask(gateway, ANNA, "mine")
        await link(gateway)
        await ask(gateway, ANNA, "ours")
        assert (await ask(gateway, side, "/unlink")).startswith(said)
        await ask(gateway, ANNA, "again mine")
        assert history(gateway)[-1] == "mine"
        assert "ours" not in history(gateway)
        await ask(gateway, ANN, "still ours")
        assert history(gateway)[-1] == "ours"
        assert "mine" not in history(gateway)
        await ask(gateway, ANN, "/new")
        await ask(gateway, ANNA, "/new")
    assert await ask(gateway, ANN, "/unlink") == "You are not linked with anybody."


async def test_a_link_survives_a_restart_and_so_does_one_on_its_way(gateway: Gateway) -> None:
    code = await code_of(gateway, ANN)
    await gateway.crash()
    async with gateway.again() as second:
        assert "This is the code of" in await ask(second, ANNA, f"/link {code}")
        await ask(second, ANN, "/link")
        await second.crash()
    async with second.again() as third:
        assert "was entered by" in await ask(third, ANN, "/link yes")  # who it was is shown once more
        assert (await ask(third, ANN, "/link yes")).startswith("Linked with")
        await ask(third, ANN, "ours")
    async with third.again() as fourth:
        assert fourth.links.person(*ANNA) == ANN
        await ask(fourth, ANNA, "?")
        assert history(fourth) == ["ours"]


async def test_a_third_account_is_linked_to_the_same_root(gateway: Gateway) -> None:
    third = Person(AccountId("site"), UserId("a1"))
    await link(gateway)
    await link(gateway, ANN, third)
    assert gateway.links.others(third) == [ANN, ANNA]
    await ask(gateway, ANNA, "1")
    await ask(gateway, third, "2")
    assert history(gateway) == ["1"]
    assert "`ann` on `work`, `a1` on `site`" in await ask(gateway, ANNA, "/whoami")
    assert (await ask(gateway, ANNA, "/link")).startswith("You are linked with `ann` on `work`, `a1` on `site`.")
    assert (await ask(gateway, ANNA, "/unlink")).startswith("You are no longer linked.")
    assert gateway.links.others(third) == [ANN]


async def test_nothing_is_linked_before_the_owner_has_seen_who_entered_the_code(gateway: Gateway) -> None:
    code = await code_of(gateway, ANN)
    assert "Nobody has entered" in await ask(gateway, ANN, "/link yes")
    await ask(gateway, ANNA, f"/link {code}")
    assert gateway.links.all() == []
    assert "was entered by `Anna`" in await ask(gateway, ANN, "/link yes")
    assert gateway.links.all() == []
    assert "no longer valid" in await ask(gateway, ANN, "/link no")
    assert "Nobody has entered" in await ask(gateway, ANN, "/link yes")
    assert "don't know this code" in await ask(gateway, ANNA, f"/link {code}")
    assert gateway.links.all() == []


async def test_whoever_entered_a_code_can_still_step_back(gateway: Gateway) -> None:
    code = await code_of(gateway, ANN)
    await ask(gateway, ANNA, f"/link {code}")
    assert "no longer valid" in await ask(gateway, ANNA, "/link no")
    assert CODE.search(await ask(gateway, ANN, "/link"))  # a new one: nobody has entered it
    assert "Nobody has entered" in await ask(gateway, ANN, "/link yes")
    assert gateway.links.all() == []


async def test_a_code_is_used_up_replaced_and_too_old(gateway: Gateway) -> None:
    other = Person(AccountId("site"), UserId("eve"))
    code = await code_of(gateway, ANN)
    await ask(gateway, ANNA, f"/link {code}")
    wrong = await ask(gateway, other, f"/link {code}")
    assert "don't know this code" in wrong
    assert "This is the code of" in await ask(gateway, ANNA, f"/link {code}")  # carried out again after a crash, say
    await ask(gateway, ANN, "/link no")
    first, second = await code_of(gateway, ANN), await code_of(gateway, ANN)
    assert await ask(gateway, other, f"/link {first}") == wrong
    await gateway.clock.advance(600)
    assert await ask(gateway, other, f"/link {second}") == wrong
    assert await ask(gateway, other, "/link AAAABBBB") == wrong
    third = await code_of(gateway, ANN)
    await gateway.clock.advance(599)
    assert "This is the code of" in await ask(gateway, ANNA, f"/link {third}")
    await gateway.clock.advance(599)
    assert "was entered by" in await ask(gateway, ANN, "/link")
    await gateway.clock.advance(1)
    assert "Nobody has entered" in await ask(gateway, ANN, "/link yes")


async def test_a_code_is_taken_as_people_type_it(gateway: Gateway) -> None:
    code = await code_of(gateway, ANN)
    assert "这是" in await ask(gateway, ANNA, f"/关联  {code[:4].lower()}-{code[4:].lower()} ")
    assert "输入了您的关联码" in await ask(gateway, ANN, "/关联")
    assert "已与" in await ask(gateway, ANN, "/关联 确认")
    assert "已取消关联" in await ask(gateway, ANNA, "/取消关联")


async def test_guessing_ends_after_a_few_tries(gateway: Gateway) -> None:
    code = await code_of(gateway, ANN)
    for number in range(MOST_TRIES):
        assert "don't know this code" in await ask(gateway, ANNA, f"/link ZZZZZZZ{number + 2}")
    assert "too many codes" in await ask(gateway, ANNA, f"/link {code}")
    assert "This is the code of" in await ask(gateway, ANNA._replace(user=UserId("other")), f"/link {code}")
    await gateway.clock.advance(600)
    code = await code_of(gateway, ANN)
    assert "This is the code of" in await ask(gateway, ANNA, f"/link {code}")


async def test_the_code_itself_is_kept_nowhere_but_in_the_messages_that_said_it(gateway: Gateway) -> None:
    offered = await gateway.links.offer(ANN, "Ann")
    assert b"Ann" in written(gateway)
    assert str(offered).encode() not in written(gateway)


# Who is not linked


async def test_two_people_of_one_account_are_never_joined(gateway: Gateway) -> None:
    bob, ben = Person(AccountId("work"), UserId("bob")), Person(AccountId("club"), UserId("ben"))
    assert "nobody can be two people" in await ask(gateway, bob, f"/link {await code_of(gateway, ANN)}")
    await link(gateway)
    assert "nobody can be two people" in await ask(gateway, ben, f"/link {await code_of(gateway, ANN)}")
    assert "your own code" in await ask(gateway, ANN, f"/link {await code_of(gateway, ANN)}")
    assert [each.person for each in gateway.links.all()] == [ANNA]


async def test_whoever_is_linked_has_to_part_first(gateway: Gateway) -> None:
    zoe, third = Person(AccountId("work"), UserId("zoe")), Person(AccountId("site"), UserId("a1"))
    await link(gateway)
    code = await code_of(gateway, third)
    assert "You are linked with `ann`" in await ask(gateway, ANNA, f"/link {code}")
    assert "You are linked with `anna`" in await ask(gateway, ANN, f"/link {code}")
    assert "This is the code of" in await ask(gateway, zoe, f"/link {code}")


async def test_a_confirmation_that_comes_too_late_links_nobody(gateway: Gateway) -> None:
    third = Person(AccountId("site"), UserId("a1"))
    first, second = await code_of(gateway, ANN), await code_of(gateway, third)
    await ask(gateway, ANNA, f"/link {first}")
    await ask(gateway, ANNA, f"/link {second}")
    await ask(gateway, third, "/link")
    await ask(gateway, ANN, "/link")
    await ask(gateway, ANN, "/link yes")
    assert "Nobody has entered" in await ask(gateway, third, "/link yes")
    # and one whose two sides each entered the other's code
    await ask(gateway, ANNA, "/unlink")
    first, second = await code_of(gateway, ANN), await code_of(gateway, ANNA)
    await ask(gateway, ANNA, f"/link {first}")
    await ask(gateway, ANN, f"/link {second}")
    await ask(gateway, ANN, "/link")
    await ask(gateway, ANNA, "/link")
    await asyncio.gather(*(gateway.hear("/link yes", user=one.user, account=one.account) for one in (ANN, ANNA)))
    await gateway.idle()
    assert len(gateway.links.all()) == 1


async def test_an_owner_who_was_linked_elsewhere_meanwhile_cannot_confirm(gateway: Gateway) -> None:
    third = Person(AccountId("site"), UserId("a1"))
    await ask(gateway, third, f"/link {await code_of(gateway, ANN)}")
    await ask(gateway, ANNA, f"/link {await code_of(gateway, third)}")
    await ask(gateway, third, "/link")
    assert (await ask(gateway, third, "/link yes")).startswith("Linked with `Anna`")  # others are linked to it now
    await ask(gateway, ANN, "/link")
    assert "can't be linked any more" in await ask(gateway, ANN, "/link yes")
    assert [each.person for each in gateway.links.all()] == [ANNA]


@pytest.mark.parametrize("text", ["/link", "/link yes", "/link ABCDEFGH"])
async def test_codes_are_for_direct_messages(gateway: Gateway, text: str) -> None:
    message = gateway.in_channel(text, user="ann", channel="general", account="work")
    assert await gateway.inbox.receive(message) is Receipt.ACCEPTED
    await gateway.idle()
    (said,) = gateway.pager.texts("general")
    assert said.startswith("A code is a secret")


async def test_a_code_that_others_could_read_is_no_longer_valid(gateway: Gateway) -> None:
    code = await code_of(gateway, ANN)
    await gateway.inbox.receive(gateway.in_channel(f"/link {code}", user="anna", channel="g", account="club"))
    await gateway.idle()
    assert "don't know this code" in await ask(gateway, ANNA, f"/link {code}")


@pytest.mark.parametrize("scope", [Scope.CHANNEL, Scope.THREAD, Scope.USER_IN_CHANNEL])
async def test_where_conversations_belong_to_places_nobody_is_linked(
    gateway: Gateway, accounts: dict[str, AccountConfig], scope: Scope
) -> None:
    accounts["club"] = AccountConfig(scope=scope)
    code = await code_of(gateway, ANN)
    assert "don't belong to one person" in await ask(gateway, ANNA, "/link")
    assert "don't belong to one person" in await ask(gateway, ANNA, f"/link {code}")
    accounts["club"] = AccountConfig()
    await link(gateway)
    accounts["club"] = AccountConfig(scope=scope)
    await ask(gateway, ANN, "ours")
    await ask(gateway, ANNA, "theirs")
    assert history(gateway) == []
    assert (await ask(gateway, ANNA, "/unlink")).startswith("You are no longer linked.")


class Claims(PagerReply, SenderIsClaimed):
    """A program says who writes."""


async def test_a_program_that_says_who_writes_links_nobody(gateway: Gateway) -> None:
    code = await code_of(gateway, ANN)
    gateway.pager.kind = Claims
    for text in ("/link", f"/link {code}", "/link yes"):
        assert (await ask(gateway, ANNA, text)).startswith("Linking works on chat platforms only")
    assert "您" in await ask(gateway, ANNA, "/关联")


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("", "`u1` on `work`"),
        ("u1", "`u1` on `work`"),
        ("Ann\n` **x** `", "`Ann **x**` (`u1` on `work`)"),
        ("\u202eAnn\u200b", "`Ann` (`u1` on `work`)"),
        ("x" * 100, f"`{'x' * 60}` (`u1` on `work`)"),
    ],
)
def test_a_name_cannot_look_like_something_else(name: str, shown: str) -> None:
    assert identity(Person(AccountId("work"), UserId("u1")), "en", name) == shown


# What a linked person shares, and what stays that of the message


async def test_commands_act_on_the_shared_conversation_from_both_sides(gateway: Gateway) -> None:
    await link(gateway)
    await ask(gateway, ANN, "1")
    assert "Turns in this conversation: 1" in await ask(gateway, ANNA, "/status")
    await ask(gateway, ANNA, "/model other-model")
    await ask(gateway, ANN, "2")
    assert gateway.model.models[-1] == "other-model"
    assert "answer to 2" in await ask(gateway, ANNA, "/export")
    gateway.model.will(hold := asyncio.Event(), "never")
    await gateway.hear("3", user="ann", place="work/ann")
    await until(lambda: gateway.model.running)
    await gateway.hear("/stop", user="anna", account="club", place="club/anna")
    await gateway.idle()
    assert gateway.pager.texts("club/anna")[-1] == "Stopped."
    hold.set()
    await ask(gateway, ANNA, "/new")
    await ask(gateway, ANN, "4")
    assert history(gateway) == []


async def test_retry_on_one_side_asks_what_was_asked_on_the_other(gateway: Gateway) -> None:
    await link(gateway)
    gateway.model.will(ChatUnavailable("down"))
    await ask(gateway, ANN, "a question")
    assert await ask(gateway, ANNA, "/retry") == "answer to a question"


async def test_whoami_names_the_other_identities_where_nobody_else_reads(gateway: Gateway) -> None:
    await link(gateway)
    assert (await ask(gateway, ANNA, "/whoami")).endswith(
        "This conversation: `work/u:ann`. Linked with: `ann` on `work`."
    )
    await gateway.inbox.receive(gateway.in_channel("/whoami", user="anna", channel="general", account="club"))
    await gateway.idle()
    assert gateway.pager.texts("general") == ["Your id is `anna` on the account `club`. This channel: `general`."]


async def test_an_outage_is_told_on_each_side(gateway: Gateway) -> None:
    await link(gateway)
    for _ in range(4):
        gateway.model.will(ChatUnavailable("down"))
    assert "can't reach the model" in await ask(gateway, ANN, "1")
    assert "can't reach the model" in await ask(gateway, ANNA, "1")
    count = len(gateway.pager.messages)
    await ask(gateway, ANN, "2")
    await ask(gateway, ANNA, "2")
    assert len(gateway.pager.messages) == count  # once on each side


async def test_messages_that_grew_too_old_are_told_of_on_each_side(gateway: Gateway) -> None:
    await link(gateway)
    gateway.model.will(hold := asyncio.Event(), "first")
    for text, one in (("0", ANN), ("1", ANN), ("2", ANNA), ("3", ANNA)):
        await gateway.hear(text, user=one.user, account=one.account, place=f"{one.account}/{one.user}")
    await until(lambda: gateway.model.running)
    await gateway.clock.advance(1000)
    hold.set()
    await gateway.idle()
    assert "1 of your messages grew old" in gateway.pager.texts("work/ann")[-1]
    assert "2 of your messages grew old" in gateway.pager.texts("club/anna")[-1]


async def test_two_identities_have_one_rate(path: Path, clock: HeldClock, accounts: dict[str, AccountConfig]) -> None:
    async with Gateway(path, clock, accounts=accounts, per_minute=6) as gateway:
        await link(gateway)
        await clock.advance(60)
        told = [
            gateway.message(str(number), user=one.user, account=one.account)
            for number, one in enumerate([ANN, ANNA] * 3)
        ]
        for message in told:
            assert await gateway.inbox.receive(message) is Receipt.ACCEPTED
            assert await gateway.inbox.receive(message) is Receipt.DUPLICATE  # given back to whom it was taken from
        assert await gateway.hear("7", user="ann") is Receipt.REFUSED
        assert await gateway.hear("7", user="anna", account="club") is Receipt.REFUSED
        assert await gateway.hear("7", user="bob") is Receipt.ACCEPTED
        await gateway.links.unlink(ANN)
        assert await gateway.hear("8", user="anna", account="club") is Receipt.ACCEPTED
        await gateway.idle()


async def test_what_one_platform_holds_back_does_not_hold_up_the_other(gateway: Gateway) -> None:
    await link(gateway)
    gateway.pager.fail("send", HeldBack("write again"))
    await gateway.hear("1", user="anna", account="club", place="club/anna")
    await gateway.idle()
    assert gateway.delivery.held(AccountId("club")) == [gateway.key()]
    assert gateway.delivery.held(AccountId("work")) == []
    gateway.pager.fail("send", HeldBack("write again"))
    assert await ask(gateway, ANN, "2") == "answer to 2"
    assert "answer to 1" not in gateway.pager.texts("club/anna")
    gateway.dispatcher.send_held(AccountId("work"))
    await gateway.idle()
    assert "answer to 1" not in gateway.pager.texts("club/anna")
    gateway.dispatcher.send_held(AccountId("club"))
    await gateway.idle()
    assert gateway.pager.texts("club/anna")[-1] == "answer to 1"


def down(gateway: Gateway, times: int) -> None:
    """The next messages do not go out."""
    gateway.pager.fail("send", *[DeliveryUnavailable("down")] * times)


async def said(gateway: Gateway, place: str, *texts: str) -> None:
    await until(lambda: gateway.pager.texts(place)[-len(texts) :] == list(texts))


async def test_a_platform_that_is_down_does_not_hold_up_the_other(gateway: Gateway) -> None:
    await link(gateway)
    down(gateway, 1)
    await gateway.hear("1", user="anna", account="club", place="club/anna")
    await until(lambda: gateway.delivery.holds(gateway.key(), ANNA.account))
    for number in ("2", "3"):
        await gateway.hear(number, user="ann", place="work/ann")
        await said(gateway, "work/ann", f"answer to {number}")
    await gateway.hear("4", user="anna", account="club", place="club/anna")  # stays behind the first one
    await until(lambda: len(gateway.model.prompts) == 4 and not gateway.dispatcher.workers)
    assert history(gateway) == ["1", "2", "3"]
    assert gateway.pager.texts("club/anna")[-1].startswith("This is the code of")
    down(gateway, 1)
    await gateway.pass_time(1.0)
    await until(lambda: gateway.pager.calls[-2:] == ["send", "send"] and not gateway.dispatcher.workers)
    await gateway.pass_time(5.0)
    await said(gateway, "club/anna", "answer to 1", "answer to 4")
    await gateway.idle()
    assert not gateway.delivery.holds(gateway.key())


async def test_what_is_put_aside_is_a_dead_letter_after_the_last_attempt(gateway: Gateway) -> None:
    await link(gateway)
    down(gateway, 6)
    await gateway.hear("1", user="anna", account="club", place="club/anna")
    for seconds in RETRY_AFTER:
        await gateway.pass_time(seconds)
    await gateway.idle()
    (letter,) = await gateway.store.dead_letters()
    assert (letter.account, letter.text) == ("club", "answer to 1")
    assert await ask(gateway, ANNA, "2") == "answer to 2"


async def test_what_was_put_aside_survives_a_restart_and_an_end_of_the_link(gateway: Gateway) -> None:
    await link(gateway)
    down(gateway, 1)
    await gateway.hear("1", user="anna", account="club", place="club/anna")
    await until(lambda: gateway.clock.sleeping)
    await gateway.crash()
    async with gateway.again() as second:
        await until(lambda: second.delivery.holds(second.key(), ANNA.account))
        await second.hear("2", user="ann", place="work/ann")
        await said(second, "work/ann", "answer to 2")
        await second.links.unlink(ANNA)
        down(second, 1)
        await second.pass_time(1.0)
        await second.pass_time(5.0)
        await said(second, "club/anna", "answer to 1")
        await second.idle()


@pytest.mark.parametrize("busy", ["merge", "interrupt"])
async def test_questions_of_two_platforms_are_never_answered_as_one(
    path: Path, clock: HeldClock, accounts: dict[str, AccountConfig], busy: Any
) -> None:
    async with Gateway(path, clock, accounts=accounts, busy=busy) as gateway:
        await link(gateway)
        gateway.model.will(hold := asyncio.Event(), "first")
        await gateway.hear("0", user="ann", place="work/ann")
        await until(lambda: gateway.model.running)
        for number, one in enumerate((ANN, ANN, ANNA, ANNA, ANN), 1):
            await gateway.hear(str(number), user=one.user, account=one.account, place=f"{one.account}/{one.user}")
        hold.set()
        await gateway.idle()
        answered = {place: gateway.pager.texts(place) for place in ("work/ann", "club/anna")}
        assert answered["club/anna"][-1] == "answer to 3\n\n4"
        assert answered["work/ann"][-1] == "answer to 5"
        assert answered["work/ann"][-2] in ("answer to 1\n\n2", "answer to 0\n\n1\n\n2")


async def test_messages_that_waited_when_the_link_was_made_keep_their_conversation(gateway: Gateway) -> None:
    gateway.model.will(hold := asyncio.Event(), "first")
    await gateway.hear("1", user="anna", account="club", place="club/anna")
    await until(lambda: gateway.model.running)
    waits = gateway.message("2", user="anna", account="club", place="club/anna")
    assert await gateway.inbox.receive(waits) is Receipt.ACCEPTED
    code = await gateway.links.offer(ANN, "Ann")
    await gateway.links.enter(ANNA, "Anna", str(code))
    gateway.links.answered(ANN)
    await gateway.links.confirm(ANN)
    assert gateway.links.person(*ANNA) == ANN
    assert await gateway.inbox.receive(waits) is Receipt.DUPLICATE
    await gateway.hear("3", user="anna", account="club", place="club/anna")
    hold.set()
    await gateway.idle()
    assert sorted(gateway.pager.texts("club/anna")) == ["answer to 2", "answer to 3", "first"]
    assert [turn.question for turn in await gateway.store.turns(gateway.key("anna", "club"))] == ["1", "2"]
    assert [turn.question for turn in await gateway.store.turns(gateway.key())] == ["3"]
    await gateway.links.unlink(ANNA)
    assert await gateway.inbox.receive(waits) is Receipt.DUPLICATE


async def test_a_root_whose_account_is_gone_keeps_its_conversation_for_the_others(
    gateway: Gateway, accounts: dict[str, AccountConfig]
) -> None:
    await link(gateway)
    await ask(gateway, ANN, "ours")
    await gateway.crash()
    accounts.pop("work")
    async with gateway.again(accounts=accounts) as second:
        assert await ask(second, ANNA, "?") == "answer to ?"
        assert history(second) == ["ours"]
        assert "`ann` on `work`" in await ask(second, ANNA, "/whoami")
        assert (await ask(second, ANNA, "/unlink")).startswith("You are no longer linked.")
        await ask(second, ANNA, "alone")
        assert history(second) == []


async def test_forget_removes_the_texts_of_both_sides_from_the_file(gateway: Gateway) -> None:
    gateway.pager.kind = Attaches
    await link(gateway)
    await ask(gateway, ANN, "canary-of-ann-end")
    await ask(gateway, ANNA, "canary-of-anna-end")
    assert b"canary-of-ann-end" in written(gateway)
    assert b"canary-of-anna-end" in written(gateway)
    assert (await ask(gateway, ANNA, "/forget yes")).startswith("Done.")
    assert b"canary-of" not in written(gateway)
    await ask(gateway, ANN, "?")
    assert history(gateway) == []


async def test_people_are_told_in_their_own_language(gateway: Gateway) -> None:
    code = await code_of(gateway, ANN)
    sender = Sender(id=ANNA.user, display_name="安娜", locale="zh-CN")
    assert "这是 `Ann`（`work` 上的 `ann`） 的关联码" in await ask(gateway, ANNA, f"/link {code}", sender=sender)


async def test_nothing_stays_of_an_offer_that_is_too_old(gateway: Gateway) -> None:
    await gateway.links.offer(ANN, "a name to be seen")
    await gateway.clock.advance(600)
    assert await gateway.store.sweep(older_than=gateway.clock.now() - timedelta(days=1)) == 0
    await gateway.store.forget(gateway.key())  # folds the WAL in
    assert b"a name to be seen" not in written(gateway)


# What is left of a code


async def test_a_code_is_in_no_file_once_it_was_told_or_typed(gateway: Gateway) -> None:
    code = await code_of(gateway, ANN)
    assert code.encode() not in written(gateway)
    typed = f"{code[:4]}-{code[4:].lower()}"
    assert "的关联码" in await ask(gateway, ANNA, f"／关联　{typed}", quoted=Quoted(author="Ann", text=code))
    for spelling in (code, typed, typed.upper()):
        assert spelling.encode() not in written(gateway)
    assert "／关联 ********".encode() in written(gateway)
    assert b"Your code: `********`." in written(gateway)


async def test_a_code_that_comes_to_nothing_is_in_no_file_either(gateway: Gateway) -> None:
    code = await code_of(gateway, ANN)
    assert "others read along" in await ask(gateway, ANNA, f"/link {code}", is_direct=False, mentions_bot=True)
    assert "I don't know this code" in await ask(gateway, ANNA, f"/link {code}")
    gateway.journal.errors["put_link_offer"] = [StorageUnavailable("the disk is full")]
    assert "Something went wrong" in await ask(gateway, ANN, "/link")
    assert code.encode() not in written(gateway)


async def test_a_code_that_a_crash_kept_from_being_told_is_told_and_then_hidden(gateway: Gateway) -> None:
    gateway.pager.gates["send"] = asyncio.Event()
    await gateway.hear("/link", user="ann", account="work", place="work/ann")
    await until(lambda: gateway.pager.waiting)
    await gateway.crash()
    gateway.pager.gates.clear()
    async with gateway.again() as later:
        await later.idle()
        found = CODE.search(later.pager.texts("work/ann")[-1])
        assert found is not None
        assert "This is the code of" in await ask(later, ANNA, f"/link {found[1]}")
        assert found[1].encode() not in written(later)


async def test_a_code_whose_reply_did_not_arrive_can_still_be_told(gateway: Gateway) -> None:
    gateway.pager.fail("send", DeliveryError("the platform refuses it"))
    await gateway.ask("/link", user="ann", account="work", place="work/ann")
    ((letter, text),) = [(one.id, one.text) for one in await gateway.store.dead_letters()]
    found = CODE.search(text)
    assert found is not None
    conversation = await gateway.store.retry_part(PartId(int(letter.removeprefix("out-"))))
    assert conversation is not None
    gateway.dispatcher.take_up(conversation)
    await gateway.idle()
    assert found[1] in gateway.pager.texts("work/ann")[-1]
    assert found[1].encode() not in written(gateway)
