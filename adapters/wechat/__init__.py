"""Personal WeChat through a Wechaty puppet service, over gRPC. See docs/platforms/wechat.md."""

from adapters.wechat.adapter import SPEC, WechatAdapter
from adapters.wechat.config import Config
from adapters.wechat.parse import parse_message
from adapters.wechat.reply import WechatReply

__all__ = ["SPEC", "Config", "WechatAdapter", "WechatReply", "parse_message"]
