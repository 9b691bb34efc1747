"""Personal WeChat through Tencent's iLink API: direct chats, a bot that is signed in by a scanned code. See
docs/platforms/weixin.md."""

from adapters.weixin.adapter import SPEC, WeixinAdapter
from adapters.weixin.config import Config
from adapters.weixin.parse import parse_message
from adapters.weixin.reply import WeixinReply

__all__ = ["SPEC", "Config", "WeixinAdapter", "WeixinReply", "parse_message"]
