"""Random interleavings of linking, parting, talking, waiting and restarts, compared with a small model.

The model is the specification of core/links.py: who may be linked with whom, and what each prompt and reply may show.
"""

from __future__ import annotations

import asyncio
import os
import re
import shutil
import tempfile
from collections.abc import Coroutine, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test

from core.account import AccountConfig
from core.chat import ChatMessage
from core.links import MOST_TRIES, Links
from core.messages import AccountId, Person, UserId
from tests.clock import HeldClock
from tests.core.gateway import SESSION, Gateway
from tests.core.scripted_chat import Step

T = TypeVar("T")

IDENTITIES = [
    Person(AccountId(account), UserId(user))
    for account, users in {"work": ("ann", "bob"), "club": ("ann", "bob"), "site": ("ann",)}.items()
    for user in users
]
WORD = re.compile(r"word\d+")
VALID = 600.0


@dataclass
class Offer:
    """A code on its way."""

    code: str
    expires: float
    other: Person | None = None
    shown: bool = False


def parrot(prompt: Sequence[ChatMessage]) -> Sequence[Step]:
    """Tells all that people said."""
    return [" ".join(WORD.findall(" ".join(message.content for message in prompt if message.role == "user")))]


identities = st.sampled_from(IDENTITIES)


class LinkingMachine(RuleBasedStateMachine):
    """What everybody does, and what each is told."""

    def __init__(self) -> None:
        super().__init__()
        memory = Path("/dev/shm")  # a disk's sync would be most of the time
        self.folder = Path(tempfile.mkdtemp(dir=memory if memory.is_dir() else None))
        self.loop = asyncio.new_event_loop()
        self.clock = HeldClock()
        self.gateway: Gateway | None = None
        self.said: dict[Person, list[str]] = {identity: [] for identity in IDENTITIES}
        """By the root of each conversation."""
        self.links: dict[Person, Person] = {}
        self.offers: dict[Person, Offer] = {}
        self.codes: list[str] = []
        """Every code there ever was."""
        self.tries: dict[Person, tuple[int, float]] = {}
        self.words = 0

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        return self.loop.run_until_complete(work)

    @property
    def now(self) -> float:
        return self.clock.monotonic()

    @initialize()
    def start(self) -> None:
        """An empty store."""
        accounts = {account: AccountConfig() for account in ("work", "club", "site")}
        session = replace(SESSION, max_turns=100)
        self.gateway = Gateway(self.folder / "test.db", self.clock, accounts=accounts, session=session)
        self.gateway.model.default = parrot
        self.run(self.gateway.__aenter__())

    def tell(self, person: Person, text: str) -> str:
        """Write something; what is read in that place alone."""
        assert self.gateway is not None
        place, before = f"{person.account}/{person.user}", len(self.gateway.pager.messages)
        texts = self.run(self.gateway.ask(text, user=person.user, account=person.account, place=place))
        assert len(self.gateway.pager.messages) == before + 1, "one reply, and nowhere else"
        return texts[-1]

    # The model

    def root(self, person: Person) -> Person:
        return self.links.get(person, person)

    def single(self, person: Person) -> bool:
        return person not in self.links and person not in self.links.values()

    def accounts(self, root: Person) -> set[AccountId]:
        return {root.account, *(person.account for person, to in self.links.items() if to == root)}

    def offer(self, person: Person) -> Offer | None:
        offer = self.offers.get(person)
        return None if offer is None or offer.expires <= self.now else offer

    # What people do

    @rule(person=identities)
    def talk(self, person: Person) -> None:
        """Everything that was said in their conversation is known there, and nothing else."""
        self.words += 1
        known = self.said[self.root(person)]
        known.append(f"word{self.words}")
        assert WORD.findall(self.tell(person, f"word{self.words}")) == known

    @rule(person=identities)
    def link(self, person: Person) -> None:
        """Whoever's code was entered sees by whom; others get a code."""
        offer = self.offer(person)
        told = self.tell(person, "/link")
        if offer is not None and offer.other is not None:
            assert told.startswith("Your code was entered by")
            assert f"(`{offer.other.user}` on `{offer.other.account}`)" in told
            offer.shown = True
        elif person in self.links:
            assert told.startswith("You are linked with")
        else:
            code = told.split("`")[1]
            assert code not in self.codes
            self.codes.append(code)
            self.offers[person] = Offer(code, self.now + VALID)

    @rule(person=identities, data=st.data())
    def enter_any(self, person: Person, data: st.DataObject) -> None:
        """Somebody enters a code, valid or not."""
        valid = [offer.code for owner in self.offers if (offer := self.offer(owner)) is not None]
        self.enter(person, data.draw(st.sampled_from([*valid, *valid, *self.codes[-3:], "AAAAAAAA"]), label="code"))

    def enter(self, person: Person, code: str) -> None:
        """What becomes of it."""
        told = self.tell(person, f"/link {code}")
        count, until = self.tries.get(person, (0, 0.0))
        if until <= self.now:
            count, until = 0, self.now + VALID
        owner = next((one for one in self.offers if (offer := self.offer(one)) and offer.code == code), None)
        offer = self.offers[owner] if owner is not None else None
        if count >= MOST_TRIES:
            assert told.startswith("Those were too many")
        elif offer is None or owner is None or offer.other not in (None, person):
            assert told.startswith("I don't know this code")
            self.tries[person] = (count + 1, until)
        elif offer.other == person:
            assert told.startswith("This is the code of")
        elif owner == person:
            assert told.startswith("This is your own code")
        elif not self.single(person):
            assert told.startswith("You are linked with")
        elif person.account in self.accounts(owner):
            assert told.startswith("The owner of this code is known on")
        else:
            assert told.startswith(f"This is the code of `{owner.user.title()}` (`{owner.user}` on `{owner.account}`)")
            offer.other, offer.expires = person, self.now + VALID

    @rule(person=identities)
    def confirm(self, person: Person) -> None:
        """The owner of a code agrees."""
        told = self.tell(person, "/link yes")
        offer = self.offer(person)
        if offer is None or offer.other is None:
            assert told.startswith("Nobody has entered" if self.single(person) else "You are linked with")
        elif not offer.shown:
            assert told.startswith("Your code was entered by")
            offer.shown = True
        elif person in self.links or not self.single(offer.other) or offer.other.account in self.accounts(person):
            assert told.startswith("That can't be linked any more")
            del self.offers[person]
        else:
            assert told.startswith("Linked with")
            self.links[offer.other] = person
            ended = (person, offer.other)
            kept = {
                owner: each
                for owner, each in self.offers.items()
                if owner not in ended and (each.other != offer.other or each.expires <= self.now)
            }
            self.offers = kept

    @rule(person=identities, other=identities, look=st.booleans())
    def come_together(self, person: Person, other: Person, look: bool) -> None:
        """What would hardly happen by chance: the whole way, whether they may or not, perhaps without looking."""
        offer = self.offer(person)
        if offer is None or offer.other is not None:
            self.decline(person)
            self.link(person)
        if person not in self.offers:
            return
        self.enter(other, self.offers[person].code)
        if look:
            self.link(person)
        self.confirm(person)

    @rule(person=identities)
    def decline(self, person: Person) -> None:
        """The owner takes the code back, or whoever entered it steps back."""
        told = self.tell(person, "/link no")
        owners = [owner for owner in self.offers if (offer := self.offer(owner)) and person in (owner, offer.other)]
        assert told.startswith("All right" if owners else "Nobody has entered")
        for owner in owners:
            del self.offers[owner]

    @rule(person=identities)
    def unlink(self, person: Person) -> None:
        """Either side ends it."""
        told = self.tell(person, "/unlink")
        if person in self.links:
            assert told.startswith("You are no longer linked")
            del self.links[person]
        elif person in self.links.values():
            assert told.startswith("Nothing is linked with this conversation any more")
            self.links = {other: to for other, to in self.links.items() if to != person}
        else:
            assert told.startswith("You are not linked")

    @rule(person=identities, command=st.sampled_from(("/new", "/forget yes")))
    def begin_anew(self, person: Person, command: str) -> None:
        """For all who share the conversation, and nobody else."""
        self.tell(person, command)
        self.said[self.root(person)] = []

    @rule(seconds=st.sampled_from((1.0, 300.0, 600.0)))
    def wait(self, seconds: float) -> None:
        """Codes grow old."""
        self.run(self.clock.advance(seconds))

    @rule(crash=st.booleans())
    def restart(self, crash: bool) -> None:
        """What was confirmed stays, and so do the codes."""
        assert self.gateway is not None
        self.run(self.gateway.crash() if crash else self.gateway.__aexit__(None, None, None))
        self.gateway = self.gateway.again(session=replace(SESSION, max_turns=100))
        self.run(self.gateway.__aenter__())
        self.tries.clear()
        for offer in self.offers.values():
            offer.shown = False

    @invariant()
    def links_are_those_of_the_model(self) -> None:
        """And none joins two people of one account, or leads to somebody who is linked on."""
        if self.gateway is None:
            return
        found = {link.person: link.to for link in self.gateway.links.all()}
        assert found == self.links
        for root in set(found.values()):
            assert root not in found
            accounts = [root.account, *(person.account for person, to in found.items() if to == root)]
            assert len(accounts) == len(set(accounts))

    def teardown(self) -> None:
        """Everybody is heard once more."""
        try:
            if self.gateway is not None:
                for person in IDENTITIES:
                    self.talk(person)
                self.run(self.gateway.__aexit__(None, None, None))
        finally:
            self.loop.close()
            shutil.rmtree(self.folder)


SETTINGS = settings(
    max_examples=int(os.environ.get("CHATGPT_MS_EXAMPLES", "12")),
    stateful_step_count=40,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.filter_too_much],
)

TestLinking = LinkingMachine.TestCase
TestLinking.settings = SETTINGS


def test_the_machine_notices_a_link_that_leads_to_somebody_else(monkeypatch: pytest.MonkeyPatch) -> None:
    right = Links.person

    def astray(self: Links, account: AccountId, user: UserId) -> Person:
        person = right(self, account, user)
        return person if person == (account, user) else IDENTITIES[1]

    monkeypatch.setattr(Links, "person", astray)
    with pytest.raises(AssertionError):
        run_state_machine_as_test(
            LinkingMachine, settings=settings(SETTINGS, max_examples=200, database=None, phases=[Phase.generate])
        )
