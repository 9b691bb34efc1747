"""A simulated platform, a simulated model, and between them the gateway as a process."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Generic, TypeVar

from core.markdown.visible import is_visible
from tests.contract.platform import Delivery, Feature, SimulatedPlatform, Visible
from tests.contract.world import whole
from tests.scenario.conftest import MakeGateway
from tests.scenario.gateway_process import GatewayProcess, until
from tests.simulators.openai_server import OpenAIServer

Platform = TypeVar("Platform", bound=SimulatedPlatform)

PIECE = 60
"""Characters of a piece of the model's answer."""
MARK = "(may be repeated)"
"""At the end of a message that the gateway had to send again without knowing whether the first one arrived."""


@dataclass(frozen=True, slots=True)
class Asked:
    """A question, and how the platform knows it."""

    question: str
    delivery: Delivery


class Stage(Generic[Platform]):
    """Questions, each of a person of their own in a place of their own, so that nothing waits for anything else; the
    model's answer to each is always the same, so that it is known what must be read.

    A platform's subclass says what is different there.
    """

    places: ClassVar[tuple[str, str, str]] = ("channel", "channel", "direct")
    """Where the three questions of each kill are asked, the long one first: words of `ask`."""
    long: ClassVar[int] = 30_000
    """Characters of an answer to a long question: more than one message holds."""
    together: ClassVar[int] = 10
    """Questions that may be asked one after the other without waiting for the ends of their answers, so that the platform's
    limits do not hold up the beginnings."""
    comes_again: ClassVar[bool] = False
    """The platform keeps what it was not told had arrived, and brings it, at the latest when `deliver_again` says so."""

    def __init__(self, name: str, platform: Platform, model: OpenAIServer, make_gateway: MakeGateway) -> None:
        """`name` is what the figures call it; `platform` is entered by the scenarios."""
        self.name = name
        self.platform = platform
        self.model = model
        self._make_gateway = make_gateway

    # The processes

    async def gateway(self, account: Mapping[str, Any] | None = None, **options: Any) -> GatewayProcess:
        """One that runs and hears; `account` has more keys for the bot's account, other keyword arguments are
        GatewayProcess's."""
        account = {"platform": self.platform.spec.platform, **self.platform.account(), **(account or {})}
        made = await self._make_gateway(config={"accounts": {"api": "off", "web": "off", "bot": account}}, **options)
        await made.start()
        await self.platform.listening()
        return made

    async def kill(self, gateway: GatewayProcess) -> None:
        """kill -9, and `died`."""
        await gateway.kill()
        self.died()

    def died(self) -> None:
        """Let the platform forget what it asked of the process that was killed; the next one cannot know of it."""

    def deliver_again(self) -> int:
        """The platform brings once more what it was not told had arrived; how many messages."""
        return 0

    # The model

    def answers(self, *, lasting: float = 0.0) -> None:
        """From now on the model answers; a long answer takes so many seconds."""
        self.model.reply = lambda body: self.answer_to(str(body["messages"][-1]["content"]))
        self.model.configure(token_delay=lasting / (self.long / PIECE), piece=PIECE, pieces_apart=True)

    def answer_to(self, question: str) -> str:
        """What the model says."""
        words = self.long // 12 if "long" in question else 60
        return f"To {question}:\n\n" + " ".join(f"word{number:06d}," for number in range(words)) + " and that is all."

    # What the platform does

    def sends_take(self, seconds: float) -> None:
        """From now on a message is there so long before its send is answered; where `marks`."""
        raise NotImplementedError

    # What people ask

    async def ask(self, question: str, place: str) -> Asked:
        """`place` is `direct`, or one where several people write."""
        name = question.replace(" ", "")
        return Asked(
            question,
            await self.platform.person_writes(question, user=name, channel=name, direct=place == "direct"),
        )

    def taken(self, asked: Asked) -> bool:
        """Whether the gateway has a question for good."""
        return self.platform.acknowledged(asked.delivery) > 0

    # What people see

    @property
    def grows(self) -> bool:
        """Whether a piece of an answer can be seen before the whole."""
        return Feature.GROWTH not in self.platform.lacks

    @property
    def marks(self) -> bool:
        """Whether nothing tells if a message arrived whose send was broken off: it may be there twice then, the second
        time with a mark that says so."""
        return False

    def shown(self, asked: Asked) -> list[str]:
        """The bot's messages where something was asked."""
        return [each.text for each in self._visible(asked)]

    def marked(self, asked: Asked) -> int:
        """How many of them say that they may be repeated."""
        return sum(text.endswith(MARK) for text in self.shown(asked))

    def seen(self, asked: Asked) -> str:
        """The visible characters of all of them; of one that is repeated, and says so, only once."""
        seen: list[str] = []
        for text in self.shown(asked):
            ink = _ink(text.removesuffix(MARK) if self.marks else text)
            if not (self.marks and text.endswith(MARK) and seen[-1:] == [ink]):
                seen.append(ink)
        return "".join(seen)

    def whole(self, asked: Asked) -> str:
        """The visible characters of the answer that belongs there."""
        return _whole(self.answer_to(asked.question))

    def right(self, asked: Asked) -> bool:
        """Whether one whole answer is to be read there, and nothing else."""
        growing = any(each.growing for each in self._visible(asked))
        return not growing and self.seen(asked) == self.whole(asked)

    def wrong(self, asked: Sequence[Asked]) -> list[str]:
        """Questions whose place shows anything else."""
        return [each.question for each in asked if not self.right(each)]

    async def come_right(self, *asked: Asked) -> None:
        """Wait until each place shows what it should. Raises TimeoutError."""
        await until(lambda: not self.wrong(asked))

    def _visible(self, asked: Asked) -> list[Visible]:
        return [each for each in self.platform.visible(asked.delivery.room) if each.thread == asked.delivery.thread]

    # Words of the figures

    def about_kills(self, asked: Sequence[Asked]) -> str:
        """What else is worth telling after the kills."""
        marked = sum(map(self.marked, asked))
        return f"; {marked} messages that say that they may be repeated" if self.marks else ""

    def way(self, place: str) -> str:
        """How an answer reaches a place."""
        return "directly" if place == "direct" else f"in a {place}"


@functools.lru_cache(maxsize=256)  # the same long texts are looked at again and again
def _ink(text: str) -> str:
    return "".join(filter(is_visible, text))


@functools.lru_cache(maxsize=256)
def _whole(answer: str) -> str:
    return whole(answer)
