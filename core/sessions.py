"""What the model is told: the system prompt, as much history as fits, and the question."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import NamedTuple

from core.chat import ChatMessage, Usage
from core.journal import Exchange, InboxRow, Journal, Turn
from core.messages import ConversationKey, InboundMessage

_CACHED_CHARACTERS = 8_000_000
"""Histories kept in memory, all conversations together. Others are read from the journal when they are needed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionSettings:
    """How long a conversation's memory is."""

    system_prompt: str
    max_turns: int
    """Exchanges of history in a prompt."""
    max_tokens: int
    """Tokens of a whole prompt, as estimated; the question itself is never cut."""
    idle_after: timedelta | None
    """A conversation that rested longer starts afresh; None: never."""
    personas: Mapping[str, str] = field(default_factory=dict)
    """System prompts that a conversation may have chosen instead, by name."""


@dataclass(frozen=True, slots=True)
class Prompt:
    """What a model is asked, and what that is believed to weigh."""

    messages: tuple[ChatMessage, ...]
    weight: int
    """Uncalibrated estimate of the whole, in tokens."""
    turns: int
    """Exchanges of history in it."""


def weigh(text: str) -> int:
    """Roughly how many tokens `text` is: four bytes of UTF-8 each, which suits English and Chinese alike, plus framing."""
    return len(text.encode("utf-8", "surrogatepass")) // 4 + 4


def question_of(conversation: ConversationKey, rows: Sequence[InboxRow]) -> str:
    """What was asked, as the model reads it: several messages as one, quotes and files as data with their source."""
    shared = conversation.user is None
    return "\n\n".join(_as_text(row.message, named=shared and not row.message.is_direct) for row in rows)


def _as_text(message: InboundMessage, *, named: bool) -> str:
    lines: list[str] = []
    if message.quoted is not None:
        author = _one_line(message.quoted.author)
        lines.append(f"[In reply to a message by {author}:]" if author else "[In reply to a message:]")
        lines += [f"> {line}" for line in message.quoted.text.splitlines()]
        lines.append("")
    text = message.text
    if named and message.sender.display_name:
        text = f"{_one_line(message.sender.display_name)}: {text}"
    lines.append(text)
    for file in message.attachments:
        size = "" if file.size is None else f", {file.size} bytes"
        lines.append(f"[Attached file, not shown: {_one_line(file.name)} ({_one_line(file.media_type)}{size})]")
    return "\n".join(lines).strip()


def _one_line(name: str) -> str:
    """People choose names; none of them may look like a line of somebody else's."""
    return " ".join(name.split())[:200]


class _Weighed(NamedTuple):
    """An exchange as prompts have it, made and weighed once."""

    exchange: Exchange
    weight: int
    messages: tuple[ChatMessage, ChatMessage]


@dataclass(frozen=True, slots=True)
class _Hot:
    """A history in memory."""

    generation: int
    exchanges: list[_Weighed]

    @property
    def characters(self) -> int:
        return sum(_size(weighed.exchange) for weighed in self.exchanges)


class SessionManager:
    """Makes prompts. Keeps the histories of busy conversations in memory, within a bound."""

    def __init__(self, journal: Journal, settings: SessionSettings) -> None:
        self.settings = settings
        """May be replaced while running."""
        self._journal = journal
        self._hot: OrderedDict[ConversationKey, _Hot] = OrderedDict()
        self._hot_characters = 0
        self._tokens_per_weight: dict[str, float] = {}
        self._fits: dict[str, int] = {}

    async def prompt(
        self, turn: Turn, question: str, *, model: str, without: Exchange | None = None, shorter: bool = False
    ) -> Prompt:
        """The prompt for `question`: as many of the newest exchanges as fit.

        `without` is an exchange to leave out (it is being asked again). `shorter` gives half of the prompt that the
        model said was too long; later prompts for this model heed that too.
        """
        settings = self.settings
        limit = min(settings.max_tokens, self._fits.get(model, settings.max_tokens))
        ratio = self._tokens_per_weight.get(model, 1.0)
        system = settings.personas.get(turn.persona or "", settings.system_prompt)
        base = weigh(system) + weigh(question)
        history: Sequence[_Weighed] = (await self._history(turn)).exchanges
        if without is not None and history and history[-1].exchange == without:
            history = history[:-1]
        chosen, weight = _newest(history, settings.max_turns, base, limit / ratio)
        if shorter:
            limit = self._fits[model] = max(256, min(limit, int(weight * ratio)) // 2)
            chosen, weight = _newest(history, len(chosen) // 2, base, limit / ratio)
        messages = [ChatMessage("system", system)] if system else []
        for weighed in chosen:
            messages += weighed.messages
        messages.append(ChatMessage("user", question))
        return Prompt(tuple(messages), weight, len(chosen))

    def measured(self, prompt: Prompt, usage: Usage | None, *, model: str) -> None:
        """Learn from what the server counted: estimates for this model get truer."""
        if usage is None or usage.input_tokens <= 0 or prompt.weight <= 0:
            return
        ratio = min(4.0, max(0.25, usage.input_tokens / prompt.weight))
        known = self._tokens_per_weight.get(model)
        self._tokens_per_weight[model] = ratio if known is None else 0.8 * known + 0.2 * ratio

    def grew(self, turn: Turn, exchange: Exchange, *, replaced: bool = False) -> None:
        """A turn was committed: the history in memory follows."""
        if replaced:
            self.drop(turn.conversation)
            return
        hot = self._hot.get(turn.conversation)
        if hot is None or hot.generation != turn.generation:
            return
        hot.exchanges.append(_weighed(exchange))
        self._hot_characters += _size(exchange)
        for _ in range(len(hot.exchanges) - max(1, self.settings.max_turns)):
            self._hot_characters -= _size(hot.exchanges.pop(0).exchange)
        self._bound()

    def drop(self, conversation: ConversationKey) -> None:
        """Forget what is in memory of a conversation."""
        hot = self._hot.pop(conversation, None)
        if hot is not None:
            self._hot_characters -= hot.characters

    async def _history(self, turn: Turn) -> _Hot:
        hot = self._hot.get(turn.conversation)
        if hot is not None and hot.generation == turn.generation:
            self._hot.move_to_end(turn.conversation)
            return hot
        self.drop(turn.conversation)
        stored = await self._journal.history(turn.conversation, turn.generation, most=max(1, self.settings.max_turns))
        hot = self._hot[turn.conversation] = _Hot(turn.generation, [_weighed(exchange) for exchange in stored])
        self._hot_characters += hot.characters
        self._bound()
        return hot

    def _bound(self) -> None:
        while self._hot_characters > _CACHED_CHARACTERS and len(self._hot) > 1:
            self.drop(next(iter(self._hot)))


def _newest(history: Sequence[_Weighed], most: int, weight: int, limit: float) -> tuple[Sequence[_Weighed], int]:
    """The newest exchanges that fit beside `weight`, oldest first, and what everything weighs then."""
    first = len(history)
    while first > max(0, len(history) - most):
        more = history[first - 1].weight
        if weight + more > limit:
            break
        weight, first = weight + more, first - 1
    return history[first:], weight


def _weighed(exchange: Exchange) -> _Weighed:
    messages = (ChatMessage("user", exchange.question), ChatMessage("assistant", exchange.answer))
    return _Weighed(exchange, weigh(exchange.question) + weigh(exchange.answer), messages)


def _size(exchange: Exchange) -> int:
    return len(exchange.question) + len(exchange.answer) + 200
