"""Commands about the conversation they are given in: begin anew, stop, look, choose, take along, forget."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence

import structlog

from core.adapter import CanAttach, OutboundFile
from core.archive import Archive, StoredTurn
from core.clock import Clock
from core.commands.asked import Asked, Handlers
from core.delivery import SEND_TIMEOUT
from core.errors import DeliveryError
from core.journal import InboxRow, Journal
from core.sessions import SessionManager
from core.texts import Language, say

log = structlog.get_logger(__name__)


class ConversationCommands:
    """`/new`, `/stop`, `/status`, `/model`, `/persona`, `/export`, `/forget`."""

    def __init__(
        self,
        journal: Journal,
        archive: Archive,
        sessions: SessionManager,
        clock: Clock,
        *,
        models: Callable[[], Sequence[str]],
        personas: Callable[[], Mapping[str, str]],
    ) -> None:
        self._journal = journal
        self._archive = archive
        self._sessions = sessions
        self._clock = clock
        self._models = models
        self._personas = personas

    def handlers(self) -> Handlers:
        """What is carried out here."""
        return {
            "new": self._new,
            "stop": self._stop,
            "status": self._status,
            "model": self._model,
            "persona": self._persona,
            "export": self._export,
            "forget": self._forget,
        }

    async def _new(self, asked: Asked) -> str:
        dropped = await self._renew(asked)
        language = asked.language
        return say("new_dropped", language, count=len(dropped)) if dropped else say("new", language)

    async def _renew(self, asked: Asked) -> Sequence[InboxRow]:
        """First the new generation, then the stop: what still runs can no longer enter the history."""
        dropped = await self._journal.renew(asked.conversation, before=asked.turn.rows[0].id)
        self._sessions.drop(asked.conversation)
        asked.running.supersede(asked.conversation, dropped)
        return dropped

    async def _stop(self, asked: Asked) -> str:
        return say("stop_done" if asked.running.stop(asked.conversation) else "stop_nothing", asked.language)

    async def _status(self, asked: Asked) -> str:
        language = asked.language
        state = await self._journal.state(asked.conversation)
        waiting = len(await self._archive.waiting(asked.conversation))
        activity = say(self._activity(asked), language, count=waiting)
        lines = [say("status", language, model=f"`{state.model or self._models()[0]}`", turns=state.turns)]
        summed_up = state.summed_up if self._sessions.settings.summarize else 0
        if summed_up:
            lines.append(say("status_summed_up", language, count=summed_up))
        in_view = await self._sessions.in_view(asked.turn, model=state.model or self._models()[0])
        if in_view < state.turns - summed_up:
            lines.append(say("status_in_view", language, count=in_view))
        if state.persona is not None:
            lines.append(say("status_persona", language, persona=f"`{state.persona}`"))
        lines.append(say("status_now", language, activity=activity))
        return "\n".join(lines).replace("\n", "  \n")

    def _activity(self, asked: Asked) -> str:
        """The text's name."""
        if asked.running.busy(asked.conversation):
            return "activity_busy"
        return "activity_held_up" if asked.running.held_up(asked.conversation) else "activity_idle"

    async def _model(self, asked: Asked) -> str:
        models, language = self._models(), asked.language
        listed = say("comma", language).join(f"`{model}`" for model in models)
        if not asked.argument:
            state = await self._journal.state(asked.conversation)
            return say("model_now", language, model=f"`{state.model or models[0]}`", models=listed)
        wanted = _named(asked.argument, models)
        if wanted is None:
            return say("model_unknown", language, model=_quoted(asked.argument), models=listed)
        await self._journal.choose_model(asked.conversation, None if wanted == models[0] else wanted)
        return say("model_set", language, model=f"`{wanted}`")

    async def _persona(self, asked: Asked) -> str:
        personas, language = self._personas(), asked.language
        if not personas:
            return say("persona_none", language)
        listed = say("comma", language).join(f"`{name}`" for name in personas)
        if not asked.argument:
            state = await self._journal.state(asked.conversation)
            if state.persona not in personas:
                return say("persona_default", language, personas=listed)
            return say("persona_now", language, persona=f"`{state.persona}`", personas=listed)
        wanted = _named(asked.argument, personas)
        if wanted is None and asked.argument.lower() in ("default", "默认"):
            await self._journal.choose_persona(asked.conversation, None)
            return say("persona_left", language)
        if wanted is None:
            return say("persona_unknown", language, persona=_quoted(asked.argument), personas=listed)
        await self._journal.choose_persona(asked.conversation, wanted)
        return say("persona_set", language, persona=f"`{wanted}`")

    async def _export(self, asked: Asked) -> str:
        language, reply = asked.language, asked.reply
        stored = await self._archive.turns(asked.conversation)
        turns = [turn for turn in stored if turn.question or turn.answer]
        if not turns:
            return say("export_empty", language)
        text = self._as_markdown(turns, language)
        if isinstance(reply, CanAttach):
            file = OutboundFile(
                name=f"conversation-{self._clock.now():%Y-%m-%d}.md", media_type="text/markdown", content=text.encode()
            )
            try:
                async with asyncio.timeout(SEND_TIMEOUT):
                    await reply.attach(file, key=asked.turn.part_key(99))
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

    async def _forget(self, asked: Asked) -> str:
        if asked.argument.lower() not in ("yes", "是", "确认"):
            return say("forget_ask", asked.language)
        await self._renew(asked)
        count = await self._journal.forget(asked.conversation)
        self._sessions.drop(asked.conversation)
        return say("forget_done", asked.language, count=count)


def _named(wanted: str, names: Sequence[str] | Mapping[str, str]) -> str | None:
    """The name that was meant, whatever its case; exactly so where two differ in case alone."""
    if wanted in names:
        return wanted
    return next((name for name in names if name.lower() == wanted.lower()), None)


def _quoted(argument: str) -> str:
    """What somebody typed, so that it can be shown."""
    return f"`{' '.join(argument.replace('`', '').split())[:60]}`"
