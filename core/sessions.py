"""What the model is told: the system prompt, a summary where there is one, as much history as fits, and the question."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import NamedTuple

from core.chat import ChatMessage, Usage
from core.journal import Exchange, InboxRow, Turn
from core.memory import Memories, Memory, Summary
from core.messages import ConversationKey, InboundMessage
from core.summaries import told, weight_of
from core.tokens import weigh

_CACHED_CHARACTERS = 8_000_000
"""Histories kept in memory, all conversations together. Others are read from the journal when they are needed."""

_EMPTY = 600
"""What a history of nothing counts for, as characters: of people whom nobody could answer there may be any number."""

_SUMMARY_SHARE = 8
"""A summary has an eighth of a prompt at the most."""

_SHORTEST_SUMMARY = 64
"""Tokens. In prompts that leave it less than that it would say nothing."""


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
    summarize: bool = False
    """Turns that prompts have no room for are summed up; else they are left out."""
    summary_model: str | None = None
    """The model that sums up; None: the configured one."""


@dataclass(frozen=True, slots=True)
class Prompt:
    """What a model is asked, and what that is believed to weigh."""

    messages: tuple[ChatMessage, ...]
    weight: int
    """Uncalibrated estimate of the whole, in tokens."""
    turns: int
    """Exchanges of history in it."""
    summed_up: int = 0
    """Exchanges before them that a summary in it stands for."""


@dataclass(frozen=True, slots=True)
class Window:
    """What a conversation's prompts have room for beside the system prompt, a summary of full length and a question."""

    turns: int
    tokens: int
    """As `weigh` estimates them."""
    summary: int
    """Tokens that the summary may have."""
    prompt: int
    """Tokens of a whole prompt."""


def weigh_exchange(exchange: Exchange) -> int:
    """Tokens of an exchange in a prompt, as estimated."""
    return weigh(exchange.question) + weigh(exchange.answer)


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


@dataclass(slots=True)
class _Hot:
    """A history in memory: what comes after the summary, where there is one."""

    generation: int
    exchanges: list[_Weighed]
    summarized: bool
    """It was read for prompts with summaries."""
    summary: Summary | None = None
    told: tuple[ChatMessage, ...] = ()
    """The summary as prompts have it, made and weighed once."""
    told_weight: int = 0
    weight: int = 0
    """Of all exchanges together."""
    left_out: bool = False
    """The last prompt had no room for some of what comes after the summary."""
    window: Window | None = None
    """As it was for the last prompt; None: before the first, or too small for a summary."""
    characters: int = 0


class SessionManager:
    """Makes prompts. Keeps the histories of busy conversations in memory, within a bound."""

    def __init__(self, memories: Memories, settings: SessionSettings) -> None:
        self.settings = settings
        """May be replaced while running."""
        self._memories = memories
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
        system, limit, ratio = self._room(turn, model)
        base = weigh(system) + weigh(question)
        hot = await self._history(turn)
        history: Sequence[_Weighed] = hot.exchanges
        if without is not None and history and history[-1].exchange == without:
            history = history[:-1]
        summary, chosen, weight = _fill(hot, history, settings.max_turns, base, limit / ratio)
        if shorter:
            limit = self._fits[model] = min(limit, max(256, int(weight * ratio) // 2))
            summary, chosen, weight = _fill(hot, history, len(chosen) // 2, base, limit / ratio)
        hot.left_out = len(chosen) < len(history)
        hot.window = self._window(system, question, limit / ratio) if hot.summarized else None
        messages = [ChatMessage("system", system)] if system else []
        if summary is not None:
            messages += hot.told
        for weighed in chosen:
            messages += weighed.messages
        messages.append(ChatMessage("user", question))
        return Prompt(tuple(messages), weight, len(chosen), 0 if summary is None else summary.turns)

    def _room(self, turn: Turn, model: str) -> tuple[str, int, float]:
        """The system prompt, how many tokens a whole prompt may have, and how many of them an estimated one is."""
        settings = self.settings
        system = settings.personas.get(turn.persona or "", settings.system_prompt)
        limit = min(settings.max_tokens, self._fits.get(model, settings.max_tokens))
        return system, limit, self._tokens_per_weight.get(model, 1.0)

    def _window(self, system: str, question: str, limit: float) -> Window | None:
        """None where there is so little room that a summary would take more than it gives.

        The next question is taken to be about as long as this one, unless it was uncommonly long.
        """
        tokens = int(limit) // _SUMMARY_SHARE
        room = int(limit) - weigh(system) - tokens - weight_of("") - min(weigh(question), tokens)
        if tokens < _SHORTEST_SUMMARY or room < 2 * tokens:
            return None
        return Window(self.settings.max_turns, room, tokens, int(limit))

    async def in_view(self, turn: Turn, *, model: str) -> int:
        """How many of the newest exchanges the next prompt has room for, beside a short question."""
        system, limit, ratio = self._room(turn, model)
        hot = await self._history(turn)
        _, chosen, _ = _fill(hot, hot.exchanges, self.settings.max_turns, weigh(system) + weigh(""), limit / ratio)
        return len(chosen)

    def measured(self, prompt: Prompt, usage: Usage | None, *, model: str) -> None:
        """Learn from what the server counted: estimates for this model get truer."""
        if usage is None or usage.input_tokens <= 0 or prompt.weight <= 0:
            return
        ratio = min(4.0, max(0.25, usage.input_tokens / prompt.weight))
        known = self._tokens_per_weight.get(model)
        self._tokens_per_weight[model] = ratio if known is None else 0.8 * known + 0.2 * ratio

    def estimate(self, prompt: Prompt, answer: str, *, model: str) -> Usage:
        """What a call comes to of which the server counted nothing."""
        ratio = self._tokens_per_weight.get(model, 1.0)
        return Usage(round(prompt.weight * ratio), weigh(answer) if answer else 0)

    def grew(self, turn: Turn, exchange: Exchange, *, replaced: bool = False) -> Window | None:
        """A turn was committed: the history in memory follows.

        Returns the window where the next prompt has no room for all that comes after the summary: it is time to sum up.
        """
        if replaced:
            self.drop(turn.conversation)
            return None
        hot = self._hot.get(turn.conversation)
        if hot is None or hot.generation != turn.generation:
            return None
        self._add(hot, _weighed(exchange))
        most = max(1, self.settings.max_turns)
        window = hot.window
        over = len(hot.exchanges) > most or hot.left_out or (window is not None and hot.weight > window.tokens)
        for _ in range(len(hot.exchanges) - most):
            oldest = hot.exchanges.pop(0)
            hot.weight -= oldest.weight
            self._count(hot, -_size(oldest.exchange))
        self._bound()
        return window if over else None

    def drop(self, conversation: ConversationKey) -> None:
        """Forget what is in memory of a conversation."""
        hot = self._hot.pop(conversation, None)
        if hot is not None:
            self._hot_characters -= hot.characters

    def clear(self) -> None:
        """Forget what is in memory of all conversations: some of it may have been removed from the store."""
        self._hot.clear()
        self._hot_characters = 0

    async def _history(self, turn: Turn) -> _Hot:
        summarize = self.settings.summarize and self.settings.max_turns > 0
        hot = self._hot.get(turn.conversation)
        if hot is not None and hot.generation == turn.generation and hot.summarized is summarize:
            self._hot.move_to_end(turn.conversation)
            return hot
        most = max(1, self.settings.max_turns)
        if summarize:
            memory = await self._memories.memory(turn.conversation, turn.generation, most=most)
        else:
            memory = Memory(exchanges=await self._memories.history(turn.conversation, turn.generation, most=most))
        meanwhile = self._hot.get(turn.conversation)
        if meanwhile is not None and meanwhile is not hot and meanwhile.generation == turn.generation:
            return meanwhile
        self.drop(turn.conversation)
        hot = self._hot[turn.conversation] = _Hot(turn.generation, [], summarize)
        self._count(hot, _EMPTY)
        if memory.summary is not None:
            hot.summary, hot.told = memory.summary, told(memory.summary.text)
            hot.told_weight = weight_of(memory.summary.text)
            self._count(hot, 2 * len(memory.summary.text))
        for exchange in memory.exchanges:
            self._add(hot, _weighed(exchange))
        self._bound()
        return hot

    def _add(self, hot: _Hot, weighed: _Weighed) -> None:
        hot.exchanges.append(weighed)
        hot.weight += weighed.weight
        self._count(hot, _size(weighed.exchange))

    def _count(self, hot: _Hot, characters: int) -> None:
        hot.characters += characters
        self._hot_characters += characters

    def _bound(self) -> None:
        while self._hot_characters > _CACHED_CHARACTERS and len(self._hot) > 1:
            self.drop(next(iter(self._hot)))


def _fill(
    hot: _Hot, history: Sequence[_Weighed], most: int, base: int, limit: float
) -> tuple[Summary | None, Sequence[_Weighed], int]:
    """What fits beside `base`: first the summary, then the newest exchanges; and what everything weighs then."""
    summary = hot.summary
    if summary is not None and base + hot.told_weight <= limit:
        base += hot.told_weight
    else:
        summary = None
    return summary, *_newest(history, most, base, limit)


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
    return _Weighed(exchange, weigh_exchange(exchange), messages)


def _size(exchange: Exchange) -> int:
    return 2 * (len(exchange.question) + len(exchange.answer)) + 400  # as it is, and as it stands in a request
