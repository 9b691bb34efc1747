"""Feishu and Lark: direct messages, mentions in groups, and topics. See docs/platforms/feishu.md."""

from adapters.feishu.adapter import SPEC, FeishuAdapter
from adapters.feishu.config import Config
from adapters.feishu.parse import parse_message

__all__ = ["SPEC", "Config", "FeishuAdapter", "parse_message"]
