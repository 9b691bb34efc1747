"""What a platform must bring: an adapter that receives, and a way back for each message.

Two methods are required of an `Adapter` (`run`, `reply`) and one of a `ReplyChannel` (`send`). Everything else is an
ability: a small ABC with one method, named in the class line of the adapter or reply channel that has it.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import Enum, StrEnum
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, ClassVar, Generic, NewType, Self, TypeVar

from core.messages import AccountId, Attachment, ChannelId, InboundMessage, MessageId, ReplyAddress, ThreadId
from core.signing_in import AwaitsScan as AwaitsScan  # noqa: PLC0414 - it belongs to the contract
from core.signing_in import HasOwner as HasOwner  # noqa: PLC0414 - it belongs to the contract
from core.signing_in import LoginCode as LoginCode  # noqa: PLC0414 - it belongs to the contract
from core.signing_in import LoginStep as LoginStep  # noqa: PLC0414 - it belongs to the contract
from core.signing_in import TakesDigits as TakesDigits  # noqa: PLC0414 - it belongs to the contract

if TYPE_CHECKING:
    from aiohttp.web import AbstractRouteDef

    from core.host import Host
    from core.markdown.dialect import Dialect

IdempotencyKey = NewType("IdempotencyKey", str)
"""Names one outbound part on every attempt: at most 25 characters of [a-z0-9-], unique for ever."""


class Receipt(Enum):
    """What became of a message handed to the inbox. The platform may be acknowledged for all but OVERLOADED and CLOSED."""

    ACCEPTED = "accepted"
    """Committed; it will be answered, also after a crash."""
    DUPLICATE = "duplicate"
    """Committed before; nothing more will happen."""
    IGNORED = "ignored"
    """Not for the bot: not addressed, from a bot, or empty."""
    REFUSED = "refused"
    """Not allowed or over a limit; the sender is told where that is due."""
    STALE = "stale"
    """Far too old to be answered."""
    OVERLOADED = "overloaded"
    """Not stored, too much is pending: do not acknowledge, let the platform deliver again."""
    CLOSED = "closed"
    """Not stored, the gateway is stopping: do not acknowledge."""


Inbox = Callable[[InboundMessage], Awaitable[Receipt]]
"""Returns when the message is committed: acknowledge the platform then. Raises StorageUnavailable: do not acknowledge."""


class FailureCode(StrEnum):
    """Why a message got no answer."""

    RATE_LIMITED = "rate_limited"
    OVERLOADED = "overloaded"
    NOT_ALLOWED = "not_allowed"
    TOO_LONG = "too_long"
    MODEL_UNAVAILABLE = "model_unavailable"
    MODEL_MISCONFIGURED = "model_misconfigured"
    MODEL_REFUSED = "model_refused"
    EXPIRED = "expired"
    SUPERSEDED = "superseded"
    INTERNAL = "internal"


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """A message that got no answer, as its sender may see it."""

    code: FailureCode
    text: str
    """Short and kind, in the sender's language, with the id."""
    id: str
    """Finds the cause in the log."""
    retry_after: float | None = None
    """Seconds after which trying again makes sense."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TextLimits:
    """How much text one message of a platform holds, and how often it may be edited."""

    max_length: int
    """In the units of `count`, after rendering to the platform's dialect."""
    count: Callable[[str], int] = len
    """How the platform counts: characters, UTF-16 units or bytes."""
    edit_interval: float = 1.0
    """Seconds between two edits of one message."""


class ReplyChannel(ABC):
    """The way back to where one message was written. Made per message, never changed."""

    limits: ClassVar[TextLimits]
    dialect: ClassVar[Dialect | None] = None
    """How text is written there, with the same limits; None is CommonMark as it is."""

    @abstractmethod
    async def send(self, text: str, *, key: IdempotencyKey) -> MessageId | None:
        """Post `text` (CommonMark) in the platform's dialect; return the platform's id where it gives one.

        Raises RateLimited, TargetGone, DeliveryUnavailable (surely not delivered), DeliveryUncertain (maybe delivered),
        or another DeliveryError (never will be).
        """


class StreamSink(ABC):
    """A message that grows while it is shown."""

    @property
    @abstractmethod
    def message(self) -> MessageId | None:
        """The platform's id of what is shown, once there is one. It may change with a piece (a further message of the
        same answer): each is stored before the next piece, for `edit` in a later process."""

    @abstractmethod
    async def append(self, text: str) -> None:
        """Show the next piece of CommonMark. Raises DeliveryError; the pieces so far stay the sink's own business."""

    def due(self) -> float:
        """Seconds until the next piece can be shown: it is given then, with all that came meanwhile; at the end of the
        answer nobody waits, and what `append` may not show yet is shown by leaving."""
        return 0.0

    async def stored(self) -> None:
        """Called each time a new `message` is stored. A sink may announce there what it is about to put up, and put it
        up now: a later process finds it then, whenever this one dies. Raises as `append`."""
        return


class CanEdit(ABC):
    """On a reply channel: a message that was sent can be replaced."""

    @abstractmethod
    async def edit(self, message: MessageId, text: str) -> None:
        """Replace the whole text. Raises as `send`."""


class CanStream(ABC):
    """On a reply channel: the platform has messages that grow."""

    @abstractmethod
    def stream(self, *, key: IdempotencyKey) -> AbstractAsyncContextManager[StreamSink]:
        """Open a growing message. Leaving ends it as complete; leaving by an exception ends it as broken off.

        `key` is that of the reply's first part. After a stream that broke off the whole text is sent with it, and has
        to be shown; where the platform would take that for a repetition, give the stream a key made from this one.
        """


class CanType(ABC):
    """On a reply channel: a sign that an answer is being written."""

    @abstractmethod
    async def typing(self) -> None:
        """Show the sign once; asked for again every few seconds. A failure here never costs the reply."""

    async def typing_over(self) -> None:
        """Nothing more is being written, whether there is an answer or not. Take the sign away where the platform wants
        to be told; where it fades by itself there is nothing to do."""
        return


class CanFind(ABC):
    """On a reply channel: whether an ambiguous send arrived can be looked up."""

    @abstractmethod
    async def find(self, key: IdempotencyKey) -> MessageId | None:
        """The id of the message that was sent with `key`, or None if there is none."""


class Keyed:
    """On a reply channel: the platform itself refuses a second send with the same key, for `KEY_LIFETIME`."""

    KEY_LIFETIME: ClassVar[timedelta]


class Kept:
    """On a reply channel: people read the reply where it is stored (HTTP API, web page).

    Committing it delivers it; `send`, `fail` and a stream only bring the news to whoever watches, once.
    """


class ReplyIsReceipt:
    """On a reply channel: nothing but the reply tells the sender that the message arrived (an HTTP response).

    The message is committed before it is begun, as always, but need not wait for the disk alone: the commit of the
    reply takes it along, before anybody is told anything.
    """


class SenderIsClaimed:
    """On a reply channel: who wrote is what a program says (the `user` of an HTTP request); no platform vouches for it.

    Such a person cannot be linked with others: a program could link anybody.
    """


@dataclass(frozen=True, slots=True, kw_only=True)
class OutboundFile:
    """A file to attach to a reply."""

    name: str
    media_type: str
    content: bytes


class CanAttach(ABC):
    """On a reply channel: files can be posted."""

    @abstractmethod
    async def attach(self, file: OutboundFile, *, key: IdempotencyKey) -> MessageId | None:
        """Post a file. Raises as `send`."""


class CanFail(ABC):
    """On a reply channel: a failure has a form of its own (an HTTP status, a red line) instead of a text message."""

    @abstractmethod
    async def fail(self, failure: Failure, *, key: IdempotencyKey) -> None:
        """Show the failure. Raises as `send`."""


class CanWhisper(ABC):
    """On a reply channel to a place where others read along: its sender alone can be told something."""

    AWAITED: ClassVar[bool] = False
    """Something is waited for, as after a slash command: a refusal is told each time, since it costs nobody a message."""

    @abstractmethod
    async def whisper(self, text: str, *, key: IdempotencyKey) -> None:
        """Tell it to the sender, and notify nobody. Where that is not possible, as `send`. Raises as `send`."""


class Adapter(ABC):
    """One bot account on one platform: enter to sign in, run to receive, leave to close.

    Entered anew for every attempt to connect, by one supervisor that never has two at once: entering makes a fresh
    client, and nothing of an earlier attempt is used again. `reply` works all the time, also between two attempts
    (its channels raise DeliveryUnavailable then, and what they were given is sent once the account is connected).
    """

    async def __aenter__(self) -> Self:
        """Check the credentials and open what `reply` needs, within a minute. Raises AuthenticationError or
        ConnectionLost, and leaves nothing open then. What waits for a person (a code to scan) belongs in `run`."""
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close everything. Called once for each time it was entered, after `run` has ended."""
        return

    @abstractmethod
    async def run(self, inbox: Inbox) -> None:
        """Receive until cancelled. Raises ConnectionLost or AuthenticationError when the link is over.

        Cancelling ends it, leaving included, within 2 seconds; no task, thread or socket of it is left then.
        """

    @abstractmethod
    def reply(self, address: ReplyAddress) -> ReplyChannel:
        """The way back to where a message came from; also for addresses of an earlier process. No network here."""


class ServesHttp(ABC):
    """On an adapter: it brings routes to the gateway's HTTP server."""

    @abstractmethod
    def routes(self) -> Iterable[AbstractRouteDef]:
        """Called once, before the server starts."""


class Hosted(ABC):
    """On an adapter that is a face of the gateway itself (HTTP API, web page): it shows what the gateway stores."""

    @abstractmethod
    def host(self, host: Host) -> None:
        """Called once, before the adapter is entered."""


class Heard(ABC):
    """On an adapter with a link of its own: it tells when the platform was last heard.

    Its account counts as connected while something is heard, whatever the SDK believes, and the link is begun anew
    after a silence of `deaf_after`.
    """

    deaf_after: timedelta
    """A few times the platform's own heartbeat. Also how long a fresh attempt may take until it hears something."""

    @abstractmethod
    def last_heard(self) -> datetime | None:
        """When the last frame of the platform came (heartbeats and answers to pings count), by the program's clock.
        None before the first one of this attempt."""


class HasFolder(ABC):
    """On an adapter that keeps something of its own from one start to the next, such as the credentials of a scan."""

    @abstractmethod
    def use_folder(self, folder: Path) -> None:
        """Called once, before it is entered. The folder is this account's alone, beside the database; it need not
        exist yet. Whoever makes it gives it mode 0700, and files with secrets 0600."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """A channel, or a thread in one, where a message to this account was accepted lately."""

    channel: ChannelId
    thread: ThreadId | None
    is_direct: bool
    reply_to: ReplyAddress
    """That of the newest such message: what the adapter itself noted about the place."""
    last: datetime
    """When that message was received, by the program's clock."""


class CatchesUp(ABC):
    """On an adapter: what was written while nobody listened can be read from the platform's history."""

    @abstractmethod
    def gaps(self) -> int:
        """How often listening has begun anew without the platform itself repeating what came before; 0 until it
        listens, and 0 again when it is entered anew. The gateway calls `missed` each time this has grown."""

    @abstractmethod
    def missed(self, since: datetime, places: Sequence[Place]) -> AsyncGenerator[InboundMessage, None]:
        """What people wrote since then in `places` (the most lately active first) and wherever else the adapter can
        see, oldest first in each place, with the ids that the live messages carry: what was received before is
        recognised by them. An async generator that reads page by page: it is closed as soon as there is enough.

        Raises ConnectionLost, RateLimited or a DeliveryError; places that are gone or closed to us are passed over.
        """


class AsksLeave(ABC):
    """On an adapter that does something for people who have not written yet (suggestions in an empty pane, say). Whatever
    people can cause is either a message to the inbox, or done only where the inbox would let them in."""

    @abstractmethod
    def ask_leave(self, may: Callable[[InboundMessage], bool]) -> None:
        """Called once, before it is entered. `may`: whether the person of a message, in its place, may talk to the bot;
        nothing is counted, stored or told. Until this was called nobody may."""


class FetchesFiles(ABC):
    """On an adapter: the files that come with messages can be fetched."""

    @abstractmethod
    async def fetch(self, attachment: Attachment, *, most_bytes: int) -> bytes:
        """The content of an attachment that this adapter described, fetched from the platform's own hosts only
        (`core.fetching` does it). Raises FileTooLarge, FileRefused or FileUnavailable."""


class Diagnoses(ABC):
    """On an adapter: what its account lacks can be told without waiting for a message that never comes."""

    @abstractmethod
    async def diagnose(self) -> Sequence[str]:
        """What is missing (scopes, intents, subscriptions), one sentence each with the way out; nothing where all is
        well. Called between entering and leaving, without `run`. Raises ConnectionLost."""


ConfigT = TypeVar("ConfigT")


@dataclass(frozen=True, slots=True)
class AdapterSpec(Generic[ConfigT]):
    """What the registry needs to know of a platform. Every adapter module has one, named SPEC."""

    platform: str
    config: type[ConfigT]
    """A pydantic model; unknown keys are refused."""
    create: Callable[[AccountId, ConfigT], Adapter]
    reply: type[ReplyChannel] | None = None
    """The richest reply channel of the platform, for the table of abilities."""


AnyAdapterSpec = AdapterSpec[Any]
