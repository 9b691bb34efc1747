"""Commands that join a person's identities on two accounts, and part them again."""

from __future__ import annotations

from collections.abc import Callable

from core.adapter import SenderIsClaimed
from core.archive import LinkOffer
from core.commands.asked import Asked, Handlers
from core.links import VALID_FOR, Links, Refusal
from core.messages import AccountId, Person, Scope
from core.texts import Language, say

_YES = ("yes", "是", "确认")
_NO = ("no", "否", "取消")

_LONGEST_NAME = 60


class LinkingCommands:
    """`/link`, `/unlink`."""

    def __init__(self, links: Links, *, scope: Callable[[AccountId], Scope]) -> None:
        """`scope`: that of an account's conversations."""
        self._links = links
        self._scope = scope

    def handlers(self) -> Handlers:
        """What is carried out here."""
        return {"link": self._link, "unlink": self._unlink}

    async def _link(self, asked: Asked) -> str:
        argument, language = asked.argument, asked.language
        if isinstance(asked.reply, SenderIsClaimed):
            return say("link_claimed", language)
        if self._scope(asked.message.account) is not Scope.USER:
            return say("link_shared", language)
        if not asked.message.is_direct:
            await self._links.burn(argument)
            return say("link_direct", language)
        if argument.lower() in _YES:
            return await self._confirm(asked)
        if argument.lower() in _NO:
            done = await self._links.withdraw(asked.person)
            return say("link_declined" if done else "link_nothing", language)
        return await self._enter(asked) if argument else await self._offer(asked)

    async def _offer(self, asked: Asked) -> str:
        answered = self._links.answered(asked.person)
        if answered is not None:
            return self._who_entered(answered, asked.language)
        code = await self._links.offer(asked.person, asked.message.sender.display_name)
        if isinstance(code, Refusal):
            return self._refused(code, asked)
        return say("link_code", asked.language, code=code, minutes=VALID_FOR.seconds // 60)

    async def _enter(self, asked: Asked) -> str:
        entered = await self._links.enter(asked.person, asked.message.sender.display_name, asked.argument)
        if isinstance(entered, Refusal):
            return self._refused(entered, asked)
        owner = identity(entered.person, asked.language, name=entered.name)
        return say("link_entered", asked.language, owner=owner, account=f"`{entered.person.account}`")

    async def _confirm(self, asked: Asked) -> str:
        confirmed = await self._links.confirm(asked.person)
        if confirmed is Refusal.NOT_SHOWN and (answered := self._links.answered(asked.person)) is not None:
            return self._who_entered(answered, asked.language)
        if isinstance(confirmed, Refusal):
            return self._refused(confirmed, asked)
        assert confirmed.other is not None
        return say("link_done", asked.language, other=identity(confirmed.other, asked.language, confirmed.other_name))

    def _who_entered(self, offer: LinkOffer, language: Language) -> str:
        assert offer.other is not None
        return say("link_answered", language, other=identity(offer.other, language, offer.other_name))

    def _refused(self, refusal: Refusal, asked: Asked) -> str:
        language = asked.language
        if refusal is Refusal.NOTHING_TO_CONFIRM and self._links.others(asked.person):
            return say("link_linked", language, others=identities(self._links, asked.person, language))
        match refusal:
            case Refusal.LINKED:
                return say("link_linked", language, others=identities(self._links, asked.person, language))
            case Refusal.UNKNOWN_CODE:
                return say("link_unknown_code", language)
            case Refusal.TOO_MANY_TRIES:
                return say("link_too_many_tries", language, minutes=VALID_FOR.seconds // 60)
            case Refusal.OWN_CODE:
                return say("link_own_code", language)
            case Refusal.SAME_ACCOUNT:
                return say("link_same_account", language, account=f"`{asked.message.account}`")
            case Refusal.TOO_LATE:
                return say("link_too_late", language)
            case Refusal.NOTHING_TO_CONFIRM | Refusal.NOT_SHOWN:
                return say("link_nothing", language)

    async def _unlink(self, asked: Asked) -> str:
        ended = await self._links.unlink(asked.person)
        if not ended:
            return say("unlink_nothing", asked.language)
        if ended[0].person == asked.person:
            return say("unlink_done", asked.language)
        return say("unlink_all", asked.language, count=len(ended))


def identities(links: Links, person: Person, language: Language) -> str:
    """The other identities of `person`, in words. Not for places where others read."""
    return say("comma", language).join(identity(other, language) for other in links.others(person))


def identity(person: Person, language: Language, name: str = "") -> str:
    """Somebody on an account, in words: their id, and beside it the name that they chose."""
    user, account = _shown(person.user), _shown(person.account)
    named = _shown(name)
    if named in ("``", user):
        return say("link_identity", language, user=user, account=account)
    return say("link_identity_named", language, called=named, user=user, account=account)


def _shown(text: str) -> str:
    """As it is, but in one line and without characters that could change how the rest is read."""
    line = " ".join(text.replace("`", "").split())
    return f"`{''.join(each for each in line if each.isprintable())[:_LONGEST_NAME].strip()}`"
