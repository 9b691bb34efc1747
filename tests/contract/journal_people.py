"""What was decided about people, and who waits to be let in."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest

from core.access import Standing
from core.archive import KnownPerson, PairingRequest, PersonBudget
from core.messages import AccountId, Person, ReplyAddress, UserId
from tests.clock import HeldClock
from tests.contract.journal_scenes import WORK, Engine, EngineContract, Store

ANN = Person(WORK, UserId("ann"))
HOUR = timedelta(hours=1)


def known(clock: HeldClock, person: Person = ANN, standing: Standing = Standing.ALLOWED) -> KnownPerson:
    """Somebody who was let in."""
    return KnownPerson(person=person, name="Ann", standing=standing, decided_by="eve", decided_at=clock.now())


def request(clock: HeldClock, person: Person = ANN, digest: bytes = b"\0digest") -> PairingRequest:
    """Somebody who waits for an hour."""
    now = clock.now()
    return PairingRequest(
        person=person,
        name="Ann",
        digest=digest,
        created_at=now,
        expires_at=now + HOUR,
        reply_to=ReplyAddress('{"place":"\u00e9"}'),
        language="zh",
    )


class PeopleContract(EngineContract):
    """core.archive, as far as it is about people."""

    async def test_what_was_decided_is_kept_as_it_was_last(self, engine: Engine, clock: HeldClock) -> None:
        first = known(clock)
        async with engine.open() as store:
            await store.keep_person(first)
        await clock.advance(1)
        budget = PersonBudget(messages_per_day=1, tokens_per_day=10**12, money_per_month=0.5)
        second = replace(first, standing=Standing.BLOCKED, decided_by="joe", decided_at=clock.now(), budget=budget)
        async with engine.open() as store:
            assert await store.people() == [first]
            await store.keep_person(second)
        async with engine.open() as store:
            assert await store.people() == [second]

    @pytest.mark.parametrize("standing", [Standing.ALLOWED, Standing.BLOCKED, Standing.UNDECIDED])
    async def test_every_standing_that_is_decided_can_be_stored(
        self, store: Store, clock: HeldClock, standing: Standing
    ) -> None:
        await store.keep_person(known(clock, standing=standing))
        assert [one.standing for one in await store.people()] == [standing]

    async def test_people_are_apart_by_account_and_listed_in_order(self, store: Store, clock: HeldClock) -> None:
        people = [Person(AccountId(account), UserId(user)) for account, user in ("bc", "ac", "ab")]
        for person in people:
            await store.keep_person(known(clock, person))
        assert [one.person for one in await store.people()] == sorted(people)
        assert await store.remove_person(people[0])
        assert not await store.remove_person(people[0])
        assert [one.person for one in await store.people()] == sorted(people[1:])

    async def test_ids_and_names_that_are_no_unicode_can_be_stored(self, store: Store, clock: HeldClock) -> None:
        odd = Person(WORK, UserId("half \ud800 pair"))
        await store.keep_person(replace(known(clock, odd), name="a\ud800", decided_by="b\ud800"))
        await store.add_pairing(replace(request(clock, odd), name="a\ud800"))
        assert len(await store.people()) == len(await store.pairings()) == 1
        await store.remove_pairing(odd)
        assert await store.remove_person(odd)
        assert (await store.people(), await store.pairings()) == ([], [])

    async def test_requests_are_kept_oldest_first_until_they_are_removed(
        self, engine: Engine, clock: HeldClock
    ) -> None:
        first = request(clock)
        async with engine.open() as store:
            await store.add_pairing(first)
            await clock.advance(1)
            second = request(clock, Person(WORK, UserId("aaron")), b"another")
            await store.add_pairing(second)
        async with engine.open() as store:
            assert await store.pairings() == [first, second]
            await store.remove_pairing(ANN)
            await store.remove_pairing(ANN)
            assert await store.pairings() == [second]

    async def test_a_new_request_takes_the_place_of_that_person_s_earlier_one(
        self, store: Store, clock: HeldClock
    ) -> None:
        await store.add_pairing(request(clock))
        again = request(clock, digest=b"another")
        await store.add_pairing(again)
        assert await store.pairings() == [again]

    async def test_with_a_new_request_those_that_have_expired_go(self, store: Store, clock: HeldClock) -> None:
        await store.add_pairing(request(clock))
        await clock.advance(3599)
        other = request(clock, Person(WORK, UserId("bob")), b"another")
        await store.add_pairing(other)
        assert len(await store.pairings()) == 2
        await clock.advance(1)
        third = request(clock, Person(WORK, UserId("joe")), b"a third")
        await store.add_pairing(third)
        assert await store.pairings() == [other, third]

    async def test_a_sweep_takes_who_waited_too_long(self, store: Store, clock: HeldClock) -> None:
        await store.add_pairing(request(clock))
        await clock.advance(3599)
        await store.sweep(older_than=clock.now())
        assert len(await store.pairings()) == 1
        await clock.advance(1)
        await store.sweep(older_than=clock.now() - HOUR)
        assert await store.pairings() == []
