"""Every error of the program, by remedy.

GatewayError
├── ConfigError                  tell the operator which path, what is wrong and what to do; exit 2
├── StorageError
│   ├── StorageBusy              another process owns the database: exit 2
│   ├── StorageDamaged           the file is not usable: refuse to start, exit 78
│   └── StorageUnavailable       disk full or I/O error: do not acknowledge, try again by itself
├── AuthenticationError          this account FAILED, not retried; the others go on
├── ConnectionLost               reconnect with backoff
├── DeliveryError                dead letter, with the reason
│   ├── RateLimited              wait `retry_after` and try again, bounded; an edit is skipped instead
│   ├── DeliveryUncertain        it may have arrived: settle by key, by looking it up, or by policy
│   ├── DeliveryUnavailable      the platform cannot take it now: try again later
│   ├── HeldBack                 keep it until the person writes again, or the account is signed in anew
│   └── TargetGone               the place to reply to no longer exists
├── FetchError                   the file is left out, and the person told why
│   ├── FileTooLarge             ask for a smaller one
│   ├── FileRefused              it comes from where files must not come from, or is not what it should be
│   └── FileUnavailable          gone, or its server fails: it may be tried again
└── ChatError                    a notice with an id, after what the type allows
    ├── ChatRateLimited          bounded retry before the first visible text
    ├── ChatUnavailable          the same, then a fallback model
    ├── ChatMisconfigured        wrong key, empty account or unknown model: tell the operator, do not retry
    ├── ChatRefused              the model's server will not answer this
    │   └── ChatCutShort         it reached its longest length before the first word of an answer: ask for less
    └── ContextTooLong           drop the oldest turns, try once more

A message names the thing, its value with !r, and the way out. Texts of other servers stay in `detail`, which goes to
the log and never to a chat; a secret goes to neither.
"""

from __future__ import annotations


class GatewayError(Exception):
    """The root: everything this program raises on purpose."""

    exit_code = 1
    """What the command line exits with when this error ends the program."""


class ConfigError(GatewayError):
    """The configuration or the surroundings are wrong; `faults` has one line each, all at once."""

    exit_code = 2

    def __init__(self, *faults: str) -> None:
        super().__init__("\n".join(faults))
        self.faults = faults


class StorageError(GatewayError):
    """Durable storage cannot do what was asked."""

    exit_code = 2


class StorageBusy(StorageError):
    """Another process owns the database."""


class StorageDamaged(StorageError):
    """The database is damaged, foreign, or newer than this program. Nothing was written to it."""

    exit_code = 78


class StorageUnavailable(StorageError):
    """The disk is full or failing right now; nothing of this call was stored."""


class AuthenticationError(GatewayError):
    """The platform refused the credentials; retrying cannot help."""


class ConnectionLost(GatewayError):
    """The link to the platform ended; a new one may work."""


class DeliveryError(GatewayError):
    """A reply cannot be delivered."""


class RateLimited(DeliveryError):
    """The platform asks to wait."""

    def __init__(self, message: str, *, retry_after: float) -> None:
        super().__init__(message)
        self.retry_after = retry_after
        """Seconds."""


class DeliveryUncertain(DeliveryError):
    """The call broke after it may have taken effect."""


class DeliveryUnavailable(DeliveryError):
    """The platform surely did not take it, and may later. While the account is not connected it is kept until it is."""


class HeldBack(DeliveryError):
    """The platform takes nothing more for this person until they write again, or the account is signed in anew. Surely
    not delivered."""


class TargetGone(DeliveryError):
    """The channel, thread or message to reply to no longer exists or is closed to us."""


class FetchError(GatewayError):
    """A file that came with a message cannot be had."""


class FileTooLarge(FetchError):
    """It has more bytes than may be fetched."""


class FileRefused(FetchError):
    """Its address, the way to it, or its content type is not one that is allowed."""


class FileUnavailable(FetchError):
    """Its server does not have it, does not give it, or does not answer."""


class ChatError(GatewayError):
    """The model gave no answer."""

    def __init__(self, message: str, *, detail: str = "", retry_after: float | None = None) -> None:
        super().__init__(message)
        self.detail = detail
        """What the model's server said; for the log alone."""
        self.retry_after = retry_after
        """Seconds, where the server told."""


class ChatRateLimited(ChatError):
    """The model's server asks to wait (HTTP 429)."""


class ChatUnavailable(ChatError):
    """The model's server is unreachable, failing, or too slow."""


class ChatMisconfigured(ChatError):
    """The key is refused, its account is empty, or the model does not exist (HTTP 401 to 404)."""


class ChatRefused(ChatError):
    """The model's server rejects this very request (other HTTP 4xx, content filter)."""

    def __init__(self, message: str, *, detail: str = "", field: str = "") -> None:
        super().__init__(message, detail=detail)
        self.field = field
        """Which field of the request is to blame, where the server told."""


class ChatCutShort(ChatRefused):
    """The answer's longest length was used up before there was any text, by thoughts most likely."""


class ContextTooLong(ChatError):
    """The prompt does not fit the model's context."""
