"""What is kept of a person's identities on several accounts, and of links on their way."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

from core.archive import Link, LinkOffer
from core.codes import code_digest
from core.messages import AccountId, Person, UserId
from tests.clock import HeldClock
from tests.contract.journal_scenes import Engine, EngineContract, Store

ANN = Person(AccountId("work"), UserId("ann"))
ANNA = Person(AccountId("club"), UserId("anna"))
A1 = Person(AccountId("site"), UserId("a/1 ü"))


def offer(clock: HeldClock, person: Person, code: str = "ABCDEFGH", *, minutes: int = 10) -> LinkOffer:
    expires = clock.now() + timedelta(minutes=minutes)
    return LinkOffer(person=person, name=person.user.title(), digest=code_digest(code), expires_at=expires)


class LinkContract(EngineContract):
    """Links and offers, in core.archive."""

    async def test_links_are_kept_and_removed_from_either_end(self, engine: Engine, clock: HeldClock) -> None:
        first = Link(person=ANNA, to=ANN, linked_at=clock.now())
        second = Link(person=A1, to=ANN, linked_at=clock.now() + timedelta(seconds=1))
        async with engine.open() as store:
            assert await store.links() == []
            await store.add_link(second)
            await store.add_link(first)
            await engine.crash(store)
        async with engine.open() as store:
            assert await store.links() == [first, second]
            assert await store.remove_links(ANNA) == 1
            assert await store.remove_links(ANNA) == 0
            assert await store.links() == [second]
            await store.add_link(first)
            assert await store.remove_links(ANN) == 2
            assert await store.links() == []

    async def test_a_person_has_one_offer_the_newest(self, engine: Engine, clock: HeldClock) -> None:
        newer = replace(offer(clock, ANN, "HGFEDCBA", minutes=11), other=ANNA, other_name="Änna \U0001f600")
        async with engine.open() as store:
            await store.put_link_offer(offer(clock, ANN))
            await store.put_link_offer(newer)
            await store.put_link_offer(offer(clock, A1))
            await engine.crash(store)
        async with engine.open() as store:
            assert await store.link_offers() == [offer(clock, A1), newer]
            await store.remove_link_offer(A1)
            await store.remove_link_offer(A1)
            assert await store.link_offers() == [newer]

    async def test_an_offer_ends_by_itself(self, store: Store, clock: HeldClock) -> None:
        await store.put_link_offer(offer(clock, ANN))
        await clock.advance(599)
        assert len(await store.link_offers()) == 1
        await clock.advance(1)
        assert await store.link_offers() == []
        await store.put_link_offer(offer(clock, ANNA))  # the same code may come again then
        assert [each.person for each in await store.link_offers()] == [ANNA]

    async def test_a_link_ends_the_offers_that_it_makes_impossible(self, store: Store, clock: HeldClock) -> None:
        zoe = Person(AccountId("club"), UserId("zoe"))
        await store.put_link_offer(replace(offer(clock, ANN, "A"), other=ANNA))
        await store.put_link_offer(replace(offer(clock, ANNA, "B"), other=ANN))
        await store.put_link_offer(replace(offer(clock, A1, "C"), other=ANNA))
        await store.put_link_offer(stays := replace(offer(clock, zoe, "D"), other=ANN))
        await store.add_link(Link(person=ANNA, to=ANN, linked_at=clock.now()))
        assert await store.link_offers() == [stays]
