"""What the page and the server say to each other over the WebSocket: JSON objects with a `type`, version 1.

The page sends (see the models below): `hello` first, with the token of `POST /web/session`; then `open`, `send`,
`stop`, `retry`, `delete`, `list` in any order. They are carried out one after the other, so a page may send
`hello`, what it could not send before, and `open` in one go.

The server sends:

| type            | fields                                         | meaning                                               |
|-----------------|------------------------------------------------|-------------------------------------------------------|
| `ready`         | protocol, version, notice, models, keys        | answer to `hello`; `keys`: people sign in here        |
| `conversations` | conversations: [{id, title, at, model}]        | this browser's conversations, latest first            |
| `conversation`  | conversation, turns, more                      | answer to `open`: replaces what the page shows        |
| `question`      | conversation, message, text, at, retry         | a question was accepted, in this or another tab       |
| `answer`        | conversation, message, answer, from, settled,  | see below                                             |
|                 | tail, state, failure                           |                                                       |
| `accepted`      | client_id                                      | the question is stored and will be answered           |
| `rejected`      | client_id, reason                              | it is not stored; the page keeps its text             |
| `deleted`       | conversation                                   | gone, here and in the store                           |
| `error`         | code                                           | the request could not be carried out                  |

A conversation's id is random and made by the page, so that a person can begin one while the connection is away. It
names a conversation of this browser and can name no other: see adapters/web/visitor.py.

A turn is `{message, question, at, state, html, failure}` with state `waiting | running | complete | stopped | failed |
expired`. `message` names the question: it is the `client_id` it was sent with.

`answer` is the growing answer to one message. HTML comes in two parts: `settled` never changes again and is appended
once, `tail` replaces the former tail. `from` counts the settled pieces that the page has; 0 means start anew. `state`
is `running | done | stopped | failed`. Nothing is lost when messages are coalesced: a slow page gets larger pieces.

All HTML is made by core.markdown.html; questions are plain text. Times are milliseconds since 1970.

Close codes: 1001 the server stops, 1008 not allowed (fetch a new session, then reconnect), 1009 too large, 4008 too slow, 4009
too many tabs, 4010 signed out.
"""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, TypeAdapter

from core.adapter import Failure

PROTOCOL = 1

MAX_MESSAGE = 512 * 1024
"""Bytes of one message from the page. Its text field holds 64,000 UTF-16 units, at most six bytes each in JSON."""

GOING_AWAY = 1001
NOT_ALLOWED = 1008
TOO_SLOW = 4008
TOO_MANY_TABS = 4009
SIGNED_OUT = 4010

ConversationId = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_-]{8,64}$")]
ClientId = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_-]{8,64}$")]
"""Random, made by the page. The same id is the same question, however often it is sent."""
Language = Annotated[str, StringConstraints(pattern=r"^[A-Za-z]{2,8}(-[A-Za-z0-9]{1,8}){0,3}$")]


class _Message(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class Hello(_Message):
    """The first message; nothing else is heard before it."""

    type: Literal["hello"]
    csrf: Annotated[str, StringConstraints(max_length=200)]


class Open(_Message):
    """Show a conversation, from now on with what happens in it."""

    type: Literal["open"]
    conversation: ConversationId
    turns: Annotated[int, Field(ge=1, le=1000)] = 40
    """How many of the newest turns."""


class Send(_Message):
    """Ask."""

    type: Literal["send"]
    conversation: ConversationId
    client_id: ClientId
    text: Annotated[str, StringConstraints(min_length=1)]
    language: Language | None = None


class Stop(_Message):
    """Stop the running answer."""

    type: Literal["stop"]
    conversation: ConversationId


class Retry(_Message):
    """Answer the newest question of a conversation again."""

    type: Literal["retry"]
    conversation: ConversationId
    client_id: ClientId
    language: Language | None = None


class Delete(_Message):
    """Remove a conversation from the store. The page has asked for confirmation."""

    type: Literal["delete"]
    conversation: ConversationId


class List(_Message):
    """Send the conversations again."""

    type: Literal["list"]


ClientMessage = Hello | Open | Send | Stop | Retry | Delete | List

client_message: TypeAdapter[ClientMessage] = TypeAdapter(Annotated[ClientMessage, Field(discriminator="type")])
"""Reads what a page sent. Raises pydantic.ValidationError."""

Event = dict[str, Any]
"""A message to the page, ready for JSON."""


def milliseconds(at: datetime) -> int:
    """A time as the page takes it."""
    return round(at.timestamp() * 1000)


def shown_failure(failure: Failure | None) -> Event | None:
    """A failure as the page takes it."""
    if failure is None:
        return None
    return {"code": failure.code.value, "text": failure.text, "id": failure.id, "retry_after": failure.retry_after}
