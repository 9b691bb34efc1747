"""From the configuration's sections to the settings that the core's parts take."""

from __future__ import annotations

from core.account import Budget
from core.admission import InboxSettings
from core.budgets import UNLIMITED, Allowance
from core.chatgpt import ChatSettings
from core.dispatcher import DispatchSettings
from core.journal import Quota
from core.limits import LimitSettings
from core.sessions import SessionSettings
from gateway import pricing
from gateway.config import Config
from gateway.settings import LOCAL, Chat, Compaction

_REPLY_SHARE = 4
"""A quarter of a model's context is left for its answer."""


def chat_settings(chat: Chat, *, salt: str = "") -> ChatSettings:
    """How the model's server is spoken to; `salt` keeps it from guessing who hides behind a hashed id."""
    return ChatSettings(
        base_url="http://127.0.0.1:9" if chat.base_url == LOCAL else chat.base_url,
        api_key=chat.api_key.get_secret_value(),
        model=chat.model,
        fallback_models=chat.fallback_models,
        timeout=chat.timeout.total_seconds(),
        connect_timeout=chat.connect_timeout.total_seconds(),
        first_byte_timeout=chat.first_byte_timeout.total_seconds(),
        idle_timeout=chat.idle_timeout.total_seconds(),
        retries=chat.retries,
        concurrency=chat.concurrency,
        proxy=chat.proxy,
        salt=salt.encode(),
    )


def session_settings(config: Config, context: int | None) -> SessionSettings:
    """How long a conversation's memory is; `context` is what the model takes, where that is known."""
    most = config.sessions.max_tokens
    return SessionSettings(
        system_prompt=config.chat.system_prompt,
        max_turns=config.sessions.max_turns,
        max_tokens=most if context is None else min(most, context - context // _REPLY_SHARE),
        idle_after=config.sessions.idle_after,
        personas=config.chat.personas,
        summarize=config.sessions.compaction is Compaction.SUMMARIZE,
        summary_model=config.sessions.summary_model,
    )


def inbox_settings(config: Config) -> InboxSettings:
    """What is admitted."""
    limits = config.limits
    return InboxSettings(
        scope=config.sessions.scope,
        max_input_chars=limits.max_input_chars,
        same_text_per_minute=limits.same_text_per_minute,
        channel_messages_per_minute=limits.channel_messages_per_minute,
        quota=Quota(
            queued=limits.queued,
            pending=limits.pending,
        ),
    )


def limit_settings(config: Config, model: str, *, embedded: bool) -> LimitSettings:
    """What each may use. `model` is the one that answers by default; the embedded one costs nothing."""
    limits = config.limits
    budgets = {name: account.budget for name, account in config.accounts.items()}
    return LimitSettings(
        per_minute=limits.messages_per_minute,
        account_per_minute={
            name: budget.messages_per_minute
            for name, budget in budgets.items()
            if budget.messages_per_minute is not None
        },
        total_per_minute=limits.total.messages_per_minute,
        person=Allowance(
            messages_per_day=limits.messages_per_day,
            tokens_per_day=limits.tokens_per_day,
            money_per_month=limits.money_per_month,
        ),
        accounts={
            name: allowance for name, budget in budgets.items() if (allowance := _allowance(budget)) != UNLIMITED
        },
        total=_allowance(limits.total),
        exempt_admins=limits.exempt_admins,
        tokens_per_prompt=config.sessions.max_tokens,
        tokens_per_answer=limits.tokens_per_answer,
        model=model,
        prices=pricing.prices(config.chat, free=embedded),
        unpriced=pricing.unpriced_models(config),
    )


def _allowance(budget: Budget) -> Allowance:
    return Allowance(
        messages_per_day=budget.messages_per_day,
        tokens_per_day=budget.tokens_per_day,
        money_per_month=budget.money_per_month,
    )


def dispatch_settings(config: Config) -> DispatchSettings:
    """How conversations are worked on."""
    return DispatchSettings(busy=config.sessions.busy.value, idle_after=config.sessions.idle_after)
