"""Slack: direct messages, mentions, threads, the assistant pane and slash commands. See docs/platforms/slack.md."""

from adapters.slack.adapter import SPEC, SlackAdapter
from adapters.slack.config import Config
from adapters.slack.parse import parse_message

__all__ = ["SPEC", "Config", "SlackAdapter", "parse_message"]
