"""Who the bot is."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Identity:
    """What `bot/v3/info` tells (https://open.feishu.cn/document/ukTMukTMukTM/uAjMxEjLwITMx4CMyETM)."""

    open_id: str
    """The bot as a member: what people mention; empty while that is not known. Ids of this kind are the app's own:
    another app sees other ones."""
    name: str = ""
    app_id: str = ""
    """The bot as an author: histories name apps by it."""
    tenant: str = ""
    """The organisation that the app was made in, as soon as an event named it."""
