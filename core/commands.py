"""Chat commands, typed as text on every platform: what they are called and what they do."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import structlog

from core.adapter import CanAttach, OutboundFile, ReplyChannel
from core.archive import Archive, StoredTurn
from core.clock import Clock
from core.delivery import SEND_TIMEOUT
from core.errors import DeliveryError
from core.journal import InboxRow, Journal, Outcome, Turn, TurnState
from core.messages import ConversationKey
from core.sessions import SessionManager
from core.texts import Language, language_of, say

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Command:
    """A command as it was typed."""

    name: str
    argument: str

    @property
    def bypasses(self) -> bool:
        """Whether it is carried out at once. Only /retry waits for its turn: it asks the model."""
        return self.name != "retry"


_NAMES: dict[str, tuple[str, ...]] = {
    "help": ("/help", "/帮助"),
    "new": ("/new", "/reset", "/新会话", "/重置"),
    "stop": ("/stop", "/cancel", "/停止"),
    "retry": ("/retry", "/重试"),
    "status": ("/status", "/状态"),
    "model": ("/model", "/模型"),
    "whoami": ("/whoami", "/我是谁"),
    "export": ("/export", "/导出"),
    "forget": ("/forget", "/忘记"),
}
_BY_WORD = {word: name for name, words in _NAMES.items() for word in words}
_WITH_ARGUMENT = {"model", "forget"}


def parse_command(text: str) -> Command | None:
    """The command that `text` is, or None. A bare `reset` is one too; `/new` followed by more words is not."""
    stripped = text.strip()
    if stripped.lower() == "reset":
        return Command("new", "")
    if not stripped.startswith("/"):
        return None
    word, _, argument = stripped.partition(" ")
    name = _BY_WORD.get(word.lower())
    argument = argument.strip()
    if name is None or (argument and name not in _WITH_ARGUMENT):
        return None
    return Command(name, argument)


class Running(Protocol):
    """The dispatcher, as commands see it."""

    def stop(self, conversation: ConversationKey) -> bool:
        """Stop the running turn; False if none runs."""
        ...

    def supersede(self, conversation: ConversationKey, waiting: Sequence[InboxRow]) -> None:
        """The conversation starts afresh: end the running turn, dismiss what waited."""
        ...

    def busy(self, conversation: ConversationKey) -> bool:
        """Whether a turn runs."""
        ...


class Commands:
    """Carries out the commands that bypass the queue."""

    def __init__(
        self,
        journal: Journal,
        archive: Archive,
        sessions: SessionManager,
        clock: Clock,
        *,
        models: Callable[[], Sequence[str]],
    ) -> None:
        self._journal = journal
        self._archive = archive
        self._sessions = sessions
        self._clock = clock
        self._models = models

    async def run(self, turn: Turn, reply: ReplyChannel, running: Running) -> Outcome:
        """Do what the turn's message asks for; the outcome has the answer."""
        message = turn.last
        command = parse_command(message.text)
        language = language_of(message)
        match command.name if command else "help":
            case "new":
                text = await self._new(turn, language, running)
            case "stop":
                text = say("stop_done" if running.stop(turn.conversation) else "stop_nothing", language)
            case "status":
                text = await self._status(turn, language, running)
            case "model":
                text = await self._model(turn, command.argument if command else "", language)
            case "whoami":
                text = say(
                    "whoami",
                    language,
                    user=message.sender.id,
                    account=message.account,
                    conversation=turn.conversation,
                )
            case "export":
                text = await self._export(turn, reply, language)
            case "forget":
                text = await self._forget(turn, command.argument if command else "", language, running)
            case _:
                text = self._help(language)
        return Outcome(state=TurnState.COMMAND, parts=(text,))

    async def _new(self, turn: Turn, language: Language, running: Running) -> str:
        dropped = await self._renew(turn, running)
        return say("new_dropped", language, count=len(dropped)) if dropped else say("new", language)

    async def _renew(self, turn: Turn, running: Running) -> Sequence[InboxRow]:
        """First the new generation, then the stop: what still runs can no longer enter the history."""
        dropped = await self._journal.renew(turn.conversation, before=turn.rows[0].id)
        self._sessions.drop(turn.conversation)
        running.supersede(turn.conversation, dropped)
        return dropped

    async def _status(self, turn: Turn, language: Language, running: Running) -> str:
        state = await self._journal.state(turn.conversation)
        waiting = len(await self._archive.waiting(turn.conversation))
        busy = running.busy(turn.conversation)
        activity = say("activity_busy", language, count=waiting) if busy else say("activity_idle", language)
        return say(
            "status", language, model=f"`{state.model or self._models()[0]}`", turns=state.turns, activity=activity
        ).replace("\n", "  \n")

    async def _model(self, turn: Turn, wanted: str, language: Language) -> str:
        models = self._models()
        listed = ", ".join(f"`{model}`" for model in models)
        if not wanted:
            state = await self._journal.state(turn.conversation)
            return say("model_now", language, model=f"`{state.model or models[0]}`", models=listed)
        if wanted not in models:
            return say("model_unknown", language, model=f"`{wanted.replace('`', '')[:60]}`", models=listed)
        await self._journal.choose_model(turn.conversation, None if wanted == models[0] else wanted)
        return say("model_set", language, model=f"`{wanted}`")

    async def _export(self, turn: Turn, reply: ReplyChannel, language: Language) -> str:
        turns = [stored for stored in await self._archive.turns(turn.conversation) if stored.question or stored.answer]
        if not turns:
            return say("export_empty", language)
        text = self._as_markdown(turns, language)
        if isinstance(reply, CanAttach):
            file = OutboundFile(
                name=f"conversation-{self._clock.now():%Y-%m-%d}.md", media_type="text/markdown", content=text.encode()
            )
            try:
                async with asyncio.timeout(SEND_TIMEOUT):
                    await reply.attach(file, key=turn.part_key(99))
            except (DeliveryError, TimeoutError) as error:
                log.warning("a conversation could not be exported as a file", error=str(error))
            else:
                return say("export_attached", language)
        return text

    def _as_markdown(self, turns: Sequence[StoredTurn], language: Language) -> str:
        parts = [f"# {say('export_title', language, date=f'{self._clock.now():%Y-%m-%d}')}"]
        for stored in turns:
            at = f"{stored.started_at:%Y-%m-%d %H:%M} UTC"
            parts.append(f"**{say('export_you', language)}** · {at}\n\n{stored.question}")
            if stored.answer:
                parts.append(f"**{say('export_bot', language)}**\n\n{stored.answer}")
        return "\n\n".join(parts)

    async def _forget(self, turn: Turn, argument: str, language: Language, running: Running) -> str:
        if argument.lower() not in ("yes", "是", "确认"):
            return say("forget_ask", language)
        await self._renew(turn, running)
        count = await self._journal.forget(turn.conversation)
        self._sessions.drop(turn.conversation)
        return say("forget_done", language, count=count)

    def _help(self, language: Language) -> str:
        lines = [say("help_title", language), ""]
        for name, words in _NAMES.items():
            word = next(word for word in words if word.isascii() == (language == "en"))
            lines.append(f"- `{word}` {say(f'help_{name}', language)}")
        return "\n".join(lines)
