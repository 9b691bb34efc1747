"""The chat commands, each with what it needs of the gateway."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from core.account import AccountConfig
from core.clock import Clock
from core.commands import Commands
from core.commands.admin import AdminCommands
from core.commands.conversation import ConversationCommands
from core.commands.linking import LinkingCommands
from core.commands.person import PersonCommands
from core.commands.usage import UsageCommands
from core.messages import AccountId, Scope

if TYPE_CHECKING:
    from gateway.app import App


def chat_commands(
    app: App, clock: Clock, *, account: Callable[[AccountId], AccountConfig], scope: Callable[[AccountId], Scope]
) -> Commands:
    """`account` and `scope`: as they are configured now."""
    return Commands(
        ConversationCommands(
            app.store,
            app.store,
            app.sessions,
            clock,
            models=app.models,
            personas=lambda: app.config.chat.personas,
        ).handlers(),
        PersonCommands(app.links, app.people, account=account).handlers(),
        UsageCommands(app.store, app.limits, clock, payer=app.links.person, is_admin=app.admins.sent).handlers(),
        LinkingCommands(app.links, scope=scope).handlers(),
        AdminCommands(
            app.people,
            app.pairing,
            app.guard,
            app.links,
            app.limits,
            clock,
            account=account,
            owner=app.admins.owner,
        ).handlers(),
        is_admin=app.admins.sent,
    )
