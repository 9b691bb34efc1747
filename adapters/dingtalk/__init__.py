"""DingTalk: robot messages over its stream, answered with AI cards or Markdown. See docs/platforms/dingtalk.md."""

from adapters.dingtalk.adapter import SPEC, DingTalkAdapter
from adapters.dingtalk.config import Config
from adapters.dingtalk.parse import parse_message

__all__ = ["SPEC", "Config", "DingTalkAdapter", "parse_message"]
