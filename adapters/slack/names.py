"""What people and channels are called, and how people belong to the workspace: asked once in a while."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from types import TracebackType
from typing import Self

import structlog

from adapters.slack.api import SlackApi, SlackError
from adapters.slack.belongs import Known, known_user
from core.clock import Clock
from core.errors import DeliveryError, TargetGone
from core.latest import Latest
from core.untrusted import part_in, text_in

log = structlog.get_logger(__name__)

_KEPT = 20_000
_FRESH = 3600.0
"""Seconds after which somebody is asked about again: a guest may have become a member, or the other way round."""
_WAIT = 0.3
"""Seconds that a message may wait for people never heard of before; Slack wants its acknowledgement within 3."""
_AT_ONCE = 100


class Names:
    """Enter it to ask, leave it to end what is under way. Without the scope for it, ids stay ids."""

    def __init__(self, api: SlackApi, clock: Clock) -> None:
        self._api = api
        self._clock = clock
        self._names: Latest[str, tuple[Known, float]] = Latest(_KEPT)
        self._asking: dict[str, asyncio.Task[None]] = {}
        self._forbidden: set[str] = set()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        tasks = list(self._asking.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def known(self, id: str) -> str | None:
        """The name, if it was ever heard."""
        found = self._names.get(id)
        return found[0].name if found else None

    def person(self, id: str) -> Known | None:
        """All that was heard of somebody; None while nothing was."""
        found = self._names.get(id)
        return found[0] if found else None

    async def learn(self, ids: Iterable[str]) -> bool:
        """Ask for the names that are not known; returns after 0.3 s at the latest, and they are there next time. False:
        there was nothing to wait for, so all is known as before."""
        tasks = [task for id in ids if (task := self._ask(id)) is not None]
        if tasks:
            await asyncio.wait(tasks, timeout=_WAIT)
        return bool(tasks)

    def _ask(self, id: str) -> asyncio.Task[None] | None:
        """The task to wait for; None where the name is known or cannot be had. An old name is renewed beside."""
        found = self._names.get(id)
        method = "conversations_info" if id[:1] in "CG" else "users_info"
        if found and self._clock.monotonic() - found[1] < _FRESH:
            return None
        if id not in self._asking:
            if method in self._forbidden or len(self._asking) >= _AT_ONCE:
                return None
            self._asking[id] = asyncio.create_task(self._fetch(id, method))
        return None if found else self._asking[id]

    async def _fetch(self, id: str, method: str) -> None:
        known = self.person(id) or Known()
        try:
            if method == "users_info":
                known = known_user(part_in(await self._api.call(method, user=id), "user"))
            else:
                channel = part_in(await self._api.call(method, channel=id), "channel")
                known = Known(name=text_in(channel, "name") or None)
        except (SlackError, TargetGone) as error:
            if isinstance(error, SlackError) and error.code == "missing_scope":
                self._forbidden.add(method)
            log.info("a name could not be had", id=id, error=str(error))
        except DeliveryError as error:
            log.debug("a name could not be had", id=id, error=str(error))
            return  # it may be had another time
        finally:
            del self._asking[id]
        self._names[id] = (known, self._clock.monotonic())
