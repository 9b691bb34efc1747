"""What a platform's simulator must let a test do, so that `tests/contract/suite.py` can judge the platform's adapter.

A simulator speaks the platform's wire on loopback, so that the real SDK and the real adapter talk to it; this class is
the side that the test holds: what people do there, what they see, what the platform was told, and what goes wrong.
`tests/contract/telegraph.py` is a small complete one.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from enum import Enum
from types import TracebackType
from typing import Any, ClassVar, Self

from core.adapter import AnyAdapterSpec
from core.messages import Attachment, InboundMessage


class Feature(Enum):
    """What not every platform has. The checks that need it are skipped where the platform's class says why."""

    ACKNOWLEDGEMENT = "the platform is told of each message that it arrived"
    CHANNELS = "there are places where several people write"
    THREADS = "a reply belongs to a thread"
    BOTS = "other bots write there too"
    OWN = "the platform delivers the bot's own messages to it"
    EDITS = "people change their messages"
    GROWTH = "an answer can be shown while it is written"
    PINGS = "a text can notify people"
    RATE_LIMIT = "the platform asks to wait"
    DOUBT = "a send can take effect without its answer arriving"
    GONE = "a place to answer to can vanish"
    CREDENTIALS = "the platform refuses wrong credentials"
    LINK = "the adapter keeps a connection open"
    SILENCE = "a connection can be half-open; the adapter is Heard"
    HISTORY = "what was missed can be read back; the adapter CatchesUp"
    FILES = "messages bring files; the adapter FetchesFiles"


@dataclass(frozen=True, slots=True, kw_only=True)
class File:
    """A file that a person attaches."""

    name: str = "notes.txt"
    media_type: str = "text/plain"
    content: bytes = b"notes"


@dataclass(frozen=True, slots=True, kw_only=True)
class Delivery:
    """Something that was written there, as the test refers to it."""

    event: str
    """The platform's id of the delivery; a redelivery has the same."""
    message: str
    """The platform's id of the message."""
    room: str
    """Where: the simulator's name of the channel, or of the direct chat of that person with that account."""
    thread: str | None
    """The thread that an answer to it belongs in, as `Visible.thread` shows it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Visible:
    """A message of one of our bots, as a person sees it now."""

    id: str
    account: str
    """The name of the account that wrote it."""
    text: str
    """What a person reads: escapes of the wire undone, marks of the platform's dialect kept."""
    thread: str | None = None
    growing: bool = False
    """The platform shows it as not finished."""
    versions: Sequence[str] = ()
    """Every text it has had, the present one last."""


class SimulatedPlatform(ABC):
    """Enter it to listen, leave it to close. Several accounts, each a bot of its own, may talk to one simulator.

    Every mistake of the adapter that the platform would punish (a call during a pause it was asked to keep, too long
    or empty texts, malformed arguments, a second connection where one is allowed) goes to `complaints`; every check of
    the suite ends by looking there.
    """

    lacks: ClassVar[Mapping[Feature, str]] = {}
    """What the platform does not have, each with the reason."""

    @abstractmethod
    async def __aenter__(self) -> Self: ...

    @abstractmethod
    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...

    # The account

    @property
    @abstractmethod
    def spec(self) -> AnyAdapterSpec:
        """What is tested."""

    @abstractmethod
    def account(self, name: str = "bot") -> dict[str, Any]:
        """The block `accounts.<name>` of config.yaml, pointing here. Each name is a bot with credentials of its own."""

    def gateway_listens(self, url: str) -> None:
        """The gateway's HTTP server is up at `url`; where to post webhooks. Called at every start, before `listening`."""
        del url

    @abstractmethod
    async def listening(self, name: str = "bot") -> None:
        """Returns once the account would receive what is written now. Waits as long as it takes; the caller has a limit."""

    def links(self, name: str = "bot") -> int:
        """Connections that the account has open for receiving."""
        raise NotImplementedError(Feature.LINK)

    # What people do

    @abstractmethod
    async def person_writes(
        self,
        text: str,
        *,
        user: str = "ann",
        channel: str = "general",
        direct: bool = True,
        thread: str | None = None,
        mention: bool = True,
        account: str = "bot",
        files: Sequence[File] = (),
        age: timedelta = timedelta(0),
    ) -> Delivery:
        """Somebody writes to `account`: directly, or in `channel` (with the bot mentioned unless `mention` is False).

        Returns when the platform has taken it, whether anybody listens or not: then it stays in the history, and the
        platform redelivers it by itself as the real one would. `thread` is a `Delivery.thread`. `age`: it was written
        so long ago and nobody listened (history alone has it).
        """

    @abstractmethod
    async def redeliver(self, delivery: Delivery, *, times: int = 1) -> None:
        """The platform delivers the same event again, so many times at once, on whatever link is open."""

    async def bot_writes(self, text: str, *, own: bool, account: str = "bot", direct: bool = True) -> None:
        """Another bot, or (`own`) the bot itself, wrote: the platform delivers that like any message."""
        raise NotImplementedError(Feature.OWN if own else Feature.BOTS)

    async def person_edits(self, delivery: Delivery, text: str) -> None:
        """Somebody changes what they wrote, and the platform delivers that."""
        raise NotImplementedError(Feature.EDITS)

    # What is seen

    def acknowledged(self, delivery: Delivery) -> int:
        """How many deliveries of this event the platform was told had arrived."""
        raise NotImplementedError(Feature.ACKNOWLEDGEMENT)

    @abstractmethod
    def visible(self, room: str) -> Sequence[Visible]:
        """What our bots have written in a room and all its threads, oldest first; removed messages are not there."""

    @abstractmethod
    def complaints(self) -> Sequence[str]:
        """What the platform had to refuse as a mistake of the adapter; scripted faults are none."""

    alarming: ClassVar[Sequence[str]] = ("@everyone", "@here", "@all", "@channel")
    """Texts that would notify people if they were sent as they are; the suite lets the model say each."""

    def pings(self) -> Sequence[str]:
        """The bots' messages that notified somebody."""
        raise NotImplementedError(Feature.PINGS)

    # What goes wrong

    def limit_rate(self, seconds: float, *, times: int = 1) -> None:
        """The next calls that show or change a message are refused with the request to wait `seconds`; a call within
        that time is a complaint."""
        raise NotImplementedError(Feature.RATE_LIMIT)

    def break_send(self, *, after: bool, times: int = 1) -> None:
        """The next calls that show a new message break off without an answer, before or `after` they took effect."""
        raise NotImplementedError(Feature.DOUBT)

    def remove(self, room: str) -> None:
        """The room is deleted, or closed to the bot."""
        raise NotImplementedError(Feature.GONE)

    def refuse_credentials(self, name: str = "bot") -> None:
        """From now on the account's credentials are wrong."""
        raise NotImplementedError(Feature.CREDENTIALS)

    async def drop(self, name: str = "bot") -> None:
        """Every connection for receiving breaks now, without a farewell. Nothing that can be resumed is kept."""
        raise NotImplementedError(Feature.LINK)

    def refuse_links(self, times: int, name: str = "bot") -> None:
        """The next attempts to connect are refused."""
        raise NotImplementedError(Feature.LINK)

    def go_silent(self, name: str = "bot") -> None:
        """The open connections say nothing more and take everything (half-open); new ones work."""
        raise NotImplementedError(Feature.SILENCE)

    patience: ClassVar[timedelta] = timedelta(seconds=2)
    """What the suite sets `deaf_after` to: longer than the simulator's heartbeat, short for a test."""

    # Files and payloads

    def elsewhere(self, attachment: Attachment, url: str) -> Attachment:
        """The same attachment, as if the platform (or somebody who forges its events) had named `url` for it."""
        raise NotImplementedError(Feature.FILES)

    @abstractmethod
    def payloads(self) -> Sequence[Any]:
        """Events as the platform sends them, JSON-like, one for each kind that the adapter reads."""

    @abstractmethod
    def parse(self, payload: Any) -> InboundMessage | None:
        """What the adapter's `parse_message` makes of a payload, with whatever else it needs."""
