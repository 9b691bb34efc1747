"""The HTTP API: `POST /chat`, `POST /chat-stream`, and OpenAI's chat completions. See docs/http-api.md."""

from adapters.api.adapter import SPEC, ApiAdapter, Config
from adapters.api.answers import ApiReply, WholeReply
from adapters.api.intake import parse_message

__all__ = ["SPEC", "ApiAdapter", "ApiReply", "Config", "WholeReply", "parse_message"]
