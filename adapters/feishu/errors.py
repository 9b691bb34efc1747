"""What Feishu's error codes mean here.

https://open.feishu.cn/document/server-docs/api-call-guide/generic-error-code, and the tables of
https://open.feishu.cn/document/server-docs/im-v1/message/reply, …/im-v1/message/create,
https://open.feishu.cn/document/cardkit-v1/card/update and https://open.feishu.cn/document/cardkit-v1/card-element/content.
"""

from __future__ import annotations

import re

from core.errors import AuthenticationError, DeliveryError, DeliveryUnavailable, TargetGone

STALE_TOKEN = frozenset((99991661, 99991663, 99991664, 99991665, 99991671))
"""The token is missing, invalid or expired: with another one the same call may do."""
WRONG_APP = frozenset((10003, 10005, 10014, 10015, 20002, 99991543))
"""Of the call for a token alone: there is no such app, or the secret is another one."""
CLOSED_APP = {
    99991401: "this machine's address is not on the app's IP allow list (Security Settings)",
    99991662: "the app is disabled",
    99991673: "the app is not installed, or disabled, in this tenant",
}
"""A person has to do something about the app, whatever is asked."""
LIMITED_APP = 99991400
LIMITED_CHAT = frozenset((230020, 11232))
"""More than 5 messages a second to one person or group, or changes of one message."""
GONE = frozenset(
    (
        230002,  # the bot is not in the group
        230011,  # the message is recalled
        230013,  # the person is out of the app's reach
        230018,  # the group's settings
        230019,  # the topic does not exist
        230029,  # the person has left the company
        230034,  # no such receiver
        230035,  # muted, or blocked by the person
        230038,  # another tenant's person
        230050,  # the message is not visible to the bot
        230053,  # the person wants no messages
        230075,  # an encrypted chat
        230110,  # the message is deleted
        230111,  # the message deletes itself soon
        231003,  # no such message
        231004,  # no such chat
        232009,  # the group is dissolved
    )
)
NO_REPLY = frozenset((230011, 230019, 230050, 230054, 230071, 230072, 230110, 230111))
"""The question cannot be replied to; its chat may take a message all the same."""
LATER = frozenset((200810, 232096))
"""A person interacts with the card; the platform does not write at the moment."""
USED_UP = 99991403
"""No further call of the month will do: nobody waits that long for an answer."""
REASONS = {USED_UP: "the organisation has used up its API calls of this month; its administrator can get a larger plan"}
"""What stands for Feishu's words where those do not tell the way out."""
DOUBTFUL = frozenset((1500, 1503, 2200, 5000, 230049, 300120))
"""Internal errors, and "the message is being sent"."""
UNSHOWABLE = frozenset(
    (
        11310,
        10002,
        200220,
        200570,
        200621,
        200860,
        200861,
        200914,
        230001,
        230025,
        230054,
        230099,
        300303,
        300305,
        300307,
    )
)
"""This content cannot be shown in this form: too long, too many elements, or a form that the chat does not take."""
NO_SCOPE = 99991672
NO_SUCH_API = 404
"""Not Feishu's code but the status of a page that is no answer of an API."""
SEQUENCE = 300317
REPEATED_OPERATION = 200770
"""An operation on a card with this `uuid` took effect before."""
WRONG_REACTION = 231001

_REPEATED = re.compile(
    r"uuid\W.*(?:duplicat|repeat|exist|conflict|used)|(?:duplicat|repeat|already)\w*\W.*(?:uuid|sent)", re.IGNORECASE
)


class FeishuError(DeliveryError):
    """Feishu will not do this."""

    def __init__(self, api: str, code: int, detail: str) -> None:
        super().__init__(f"{api}: {code} {detail}")
        self.code = code
        self.repeated = _REPEATED.search(detail) is not None
        """It says that a message with this `uuid` was sent before."""


class Gone(TargetGone):
    """As TargetGone, with Feishu's code."""

    def __init__(self, api: str, code: int, detail: str) -> None:
        super().__init__(f"{api}: {code} {detail}")
        self.code = code


class CredentialsRefused(DeliveryUnavailable):
    """The app's credentials are not valid (any more). A reply waits; the account is what has failed."""

    def __init__(self, api: str, code: int, reason: str) -> None:
        super().__init__(f"Feishu refuses the app ({api}: {code}): {reason}")
        self.code = code
        self.reason = reason


def sign_in_error(error: CredentialsRefused) -> AuthenticationError:
    """What that is at sign-in, with the way out."""
    if error.code in CLOSED_APP:
        return AuthenticationError(f"app_id: {error.reason} ({error.code}); see the app in the developer console")
    return AuthenticationError(
        f"app_id, app_secret: Feishu refuses them ({error.code}); copy both anew from Credentials & Basic Info of the"
        " developer console. An app of Lark needs `api_url: https://open.larksuite.com`"
    )
