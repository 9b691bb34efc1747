"""The browser chat, a platform like any other: see adapter.py."""

from __future__ import annotations

from adapters.web.adapter import Config, WebAdapter, parse_message
from adapters.web.reply import WebReply
from core.adapter import AdapterSpec

__all__ = ["SPEC", "Config", "WebAdapter", "WebReply", "parse_message"]

SPEC = AdapterSpec("web", Config, WebAdapter, reply=WebReply)
