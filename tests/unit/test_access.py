"""The one check of who may talk: every key, every standing, every class of people, in every place."""

from __future__ import annotations

import itertools
from datetime import UTC, datetime

import pytest

from core.access import Standing, Verdict, judge
from core.account import Access
from core.messages import (
    AccountId,
    Belongs,
    ChannelId,
    EventId,
    InboundMessage,
    MessageId,
    ReplyAddress,
    Sender,
    UserId,
)

ADMIT, IGNORE, REFUSE, PAIR = Verdict.ADMIT, Verdict.IGNORE, Verdict.REFUSE, Verdict.PAIR
ADMIN, ALLOWED, BLOCKED, UNDECIDED = Standing.ADMIN, Standing.ALLOWED, Standing.BLOCKED, Standing.UNDECIDED


def message(where: str, *, belongs: Belongs = Belongs.MEMBER, bot: bool = False) -> InboundMessage:
    """By ann: `direct`, a `mention` in the channel `general`, or one of its `others`."""
    return InboundMessage(
        id=MessageId("m"),
        event=EventId("e"),
        account=AccountId("work"),
        sender=Sender(id=UserId("ann"), is_bot=bot, belongs=belongs),
        channel=ChannelId("general"),
        is_direct=where == "direct",
        mentions_bot=where == "mention",
        text="hello",
        sent_at=datetime(2026, 1, 1, tzinfo=UTC),
        reply_to=ReplyAddress("{}"),
    )


PLACES = ("direct", "mention", "other")


@pytest.mark.parametrize(
    ("access", "direct", "mention", "other"),
    [
        (Access(), ADMIT, ADMIT, IGNORE),
        (Access(direct="allowlist"), REFUSE, ADMIT, IGNORE),
        (Access(direct="allowlist", allow=("ann",)), ADMIT, ADMIT, IGNORE),
        (Access(direct="allowlist", allow=("bob",)), REFUSE, REFUSE, IGNORE),
        (Access(direct="allowlist", allow=("general",)), REFUSE, ADMIT, IGNORE),
        (Access(direct="pairing"), PAIR, ADMIT, IGNORE),
        (Access(direct="pairing", allow=("ann",)), ADMIT, ADMIT, IGNORE),
        (Access(direct="pairing", allow=("bob",)), PAIR, REFUSE, IGNORE),
        (Access(direct="off"), REFUSE, ADMIT, IGNORE),
        (Access(direct="off", allow=("ann",)), REFUSE, ADMIT, IGNORE),
        (Access(channels="off"), ADMIT, REFUSE, IGNORE),
        (Access(channels="off", allow=("ann", "general")), ADMIT, REFUSE, IGNORE),
        (Access(channels="off", always=("general",)), ADMIT, REFUSE, IGNORE),
        (Access(channels="always"), ADMIT, ADMIT, ADMIT),
        (Access(channels="always", allow=("general",)), ADMIT, ADMIT, ADMIT),
        (Access(channels="always", allow=("ann",)), ADMIT, ADMIT, ADMIT),
        (Access(channels="always", allow=("random",)), ADMIT, REFUSE, IGNORE),
        (Access(always=("general",)), ADMIT, ADMIT, ADMIT),
        (Access(always=("random",)), ADMIT, ADMIT, IGNORE),
        (Access(always=("general",), allow=("random",)), ADMIT, REFUSE, IGNORE),
        (Access(always=("general",), allow=("general",)), ADMIT, ADMIT, ADMIT),
    ],
)
def test_what_the_configuration_says_holds_for_whom_nothing_was_decided(
    access: Access, direct: Verdict, mention: Verdict, other: Verdict
) -> None:
    assert [judge(message(place), access, UNDECIDED) for place in PLACES] == [direct, mention, other]


EVERY_ACCESS = [
    Access(direct=direct, channels=channels, always=always, guests=guests, allow=allow)
    for direct, channels, always, guests, allow in itertools.product(
        ("open", "allowlist", "pairing", "off"),
        ("mention", "always", "off"),
        ((), ("general",)),
        ("open", "allowlist", "off"),
        ((), ("ann",), ("bob",), ("general",), ("random",)),
    )
]
EVERY_CASE = list(itertools.product(EVERY_ACCESS, PLACES, Belongs))


def test_a_bot_is_never_answered_whoever_it_is() -> None:
    for access, place, belongs in EVERY_CASE:
        for standing in Standing:
            assert judge(message(place, belongs=belongs, bot=True), access, standing) is IGNORE


def test_an_admin_is_admitted_wherever_they_address_the_bot() -> None:
    for access, place, belongs in EVERY_CASE:
        heard = place != "other" or access.channels == "always" or (access.channels != "off" and bool(access.always))
        assert judge(message(place, belongs=belongs), access, ADMIN) is (ADMIT if heard else IGNORE)


def test_whoever_is_blocked_is_admitted_nowhere() -> None:
    for access, place, belongs in EVERY_CASE:
        assert judge(message(place, belongs=belongs), access, BLOCKED) is (IGNORE if place == "other" else REFUSE)


def test_whoever_was_let_in_is_treated_as_one_whose_id_is_listed() -> None:
    for access, place, belongs in EVERY_CASE:
        listed = access.model_copy(update={"allow": (*access.allow, "ann")})
        verdict = judge(message(place, belongs=belongs), access, ALLOWED)
        assert verdict is judge(message(place, belongs=belongs), listed, UNDECIDED)
        assert verdict is not PAIR


def test_letting_somebody_in_closes_no_door_to_others() -> None:
    """An id that is written into an empty `allow` does."""
    access = Access(direct="allowlist")
    assert judge(message("mention"), access, UNDECIDED) is ADMIT
    assert judge(message("mention"), Access(direct="allowlist", allow=("bob",)), UNDECIDED) is REFUSE


@pytest.mark.parametrize("belongs", [Belongs.GUEST, Belongs.EXTERNAL])
def test_guests_are_like_members_or_need_to_be_listed_or_are_out(belongs: Belongs) -> None:
    for access, place, _ in EVERY_CASE:
        own, guest = message(place), message(place, belongs=belongs)
        for standing in (UNDECIDED, ALLOWED):
            listed = standing is ALLOWED or "ann" in access.allow
            if access.guests == "open" or (access.guests == "allowlist" and listed):
                assert judge(guest, access, standing) is judge(own, access, standing)
            else:
                assert judge(guest, access, standing) is (IGNORE if place == "other" else REFUSE)


def test_nobody_is_told_anything_who_did_not_address_the_bot() -> None:
    for access, _, belongs in EVERY_CASE:
        for standing in Standing:
            assert judge(message("other", belongs=belongs), access, standing) in (ADMIT, IGNORE)


def test_a_code_is_for_direct_messages_of_members_or_welcome_guests_alone() -> None:
    for access, place, belongs in EVERY_CASE:
        if judge(message(place, belongs=belongs), access, UNDECIDED) is PAIR:
            assert (place, access.direct) == ("direct", "pairing")
            assert belongs is Belongs.MEMBER or access.guests == "open"
