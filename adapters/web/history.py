"""A conversation as a page shows it: what the store has, joined with what happens right now."""

from __future__ import annotations

import json
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import replace

from adapters.web.live import Answer, AnswerState, Conversation, Question
from adapters.web.protocol import Event, milliseconds, shown_failure
from core.archive import Archive, SessionInfo, StoredTurn, Waiting
from core.clock import Clock
from core.commands import parse_command
from core.journal import TurnId, TurnState
from core.markdown.html import render
from core.messages import ConversationKey, MessageId

_RENDERED_CHARACTERS = 2_000_000
"""Rendered answers that are kept, so that going back to a conversation costs little."""


class History:
    """Reads conversations and renders their answers."""

    def __init__(self, archive: Archive, clock: Clock) -> None:
        self._archive = archive
        self._clock = clock
        self._rendered: OrderedDict[TurnId, str] = OrderedDict()
        self._size = 0

    def conversations(self, sessions: Sequence[SessionInfo]) -> list[Event]:
        """The list at the page's side. A conversation whose texts were removed has no title and is left out."""
        return [
            {
                "id": session.key.thread,
                "title": session.title,
                "at": milliseconds(session.last_active),
                "model": session.model,
            }
            for session in sorted(sessions, key=lambda session: session.last_active, reverse=True)
            if session.key.thread and session.title
        ]

    async def turns(self, key: ConversationKey, live: Conversation, *, most: int) -> tuple[list[Event], bool]:
        """The newest `most` turns, oldest first, and whether there are more. Raises StorageUnavailable."""
        stored, waiting = await self._read(key, most + 1)
        more = len(stored) > most
        shown: list[Event] = []
        claimed: set[MessageId] = set()
        for turn in _current(stored[-most:]):
            message = _message_of(turn, live, claimed)
            claimed.update(turn.messages, (message,))
            shown.append(await self._turn(turn, message))
        for item in waiting:
            if item.message.id not in claimed:
                claimed.add(item.message.id)
                retry = _is_retry(item.message.text)
                if not (retry and _takes_over(shown, item.message.id)):
                    shown.append(_entry(item.message.id, item.message.text, milliseconds(item.message.sent_at)))
        for question in live.questions.values():
            beyond = more and milliseconds(question.at) < shown[0]["at"]
            if _is_command(question) and question.message not in claimed and not beyond:
                entry = self._unstored(question, live)
                later = (place for place, other in enumerate(shown) if other["at"] > entry["at"])
                shown.insert(next(later, len(shown)), entry)
        return shown, more

    async def _read(self, key: ConversationKey, most: int) -> tuple[Sequence[StoredTurn], Sequence[Waiting]]:
        """Turns and waiting messages as of one moment: a message that moves between two reads is read again."""
        waiting = await self._archive.waiting(key)
        stored: Sequence[StoredTurn] = ()
        for _ in range(4):
            before = [item.id for item in waiting]
            stored = await self._archive.turns(key, limit=most)
            waiting = await self._archive.waiting(key)
            if [item.id for item in waiting] == before:
                break
        return stored, waiting

    async def _turn(self, turn: StoredTurn, message: MessageId) -> Event:
        entry = _entry(message, turn.question, milliseconds(turn.started_at))
        entry["state"] = turn.state.value
        if turn.failure:
            entry["failure"] = _stored_failure(turn.failure)
        if turn.answer and not turn.failure:
            entry["html"] = self._rendered.get(turn.id) or await self._render(turn)
        return entry

    async def _render(self, turn: StoredTurn) -> str:
        await self._clock.sleep(0)  # a long history must not hold up everybody else
        html = render(turn.answer)
        if turn.state is not TurnState.RUNNING:
            self._rendered[turn.id] = html
            self._size += len(html)
            while self._size > _RENDERED_CHARACTERS:
                self._size -= len(self._rendered.popitem(last=False)[1])
        return html

    def forget(self, turns: Sequence[StoredTurn]) -> None:
        """Let go of rendered answers whose texts are to be gone."""
        for turn in turns:
            self._size -= len(self._rendered.pop(turn.id, ""))

    def _unstored(self, question: Question, live: Conversation) -> Event:
        """A command and its reply: the store keeps no turn of them, so they are shown as long as they are known here."""
        entry = _entry(question.message, question.text, milliseconds(question.at))
        answer = next((a for a in reversed(live.answers.values()) if a.message == question.message), None)
        if answer is not None:
            entry["state"] = _STATES[answer.state]
            entry["html"] = answer.html if answer.ended else ""
            entry["failure"] = shown_failure(answer.failure)
        return entry


_STATES = {
    AnswerState.RUNNING: "running",
    AnswerState.DONE: "complete",
    AnswerState.STOPPED: "stopped",
    AnswerState.FAILED: "failed",
}


def _entry(message: MessageId, question: str, at: int) -> Event:
    return {"message": message, "question": question, "at": at, "state": "waiting", "html": "", "failure": None}


def _stored_failure(text: str) -> Event:
    try:
        stored = json.loads(text)
        return {name: stored.get(name) for name in ("code", "text", "id", "retry_after")}
    except (ValueError, AttributeError):
        return {"code": "internal", "text": "", "id": "", "retry_after": None}


def _current(turns: Sequence[StoredTurn]) -> list[StoredTurn]:
    """Turns without the failed ones and the answers that /retry replaced, and with the question in its place."""
    shown: list[StoredTurn] = []
    for turn in turns:
        before = shown[-1] if shown else None
        again = _is_retry(turn.question)
        failed = before is not None and before.state in (TurnState.FAILED, TurnState.EXPIRED)
        if before is not None and (again or (failed and turn.question == before.question)):
            shown[-1] = replace(turn, question=before.question)
        else:
            shown.append(turn)
    return shown


def _message_of(turn: StoredTurn, live: Conversation, claimed: set[MessageId]) -> MessageId:
    """The id by which the page knows the turn."""
    if turn.messages:
        return turn.messages[-1]
    running: list[Answer] = [a for a in live.answers.values() if not a.ended]
    if turn.state is TurnState.RUNNING and running:
        return running[-1].message
    for question in live.questions.values():
        if question.text == turn.question and question.message not in claimed:
            return question.message
    return MessageId(f"turn-{turn.id}")


def _is_retry(text: str) -> bool:
    command = parse_command(text)
    return command is not None and command.name == "retry"


def _is_command(question: Question) -> bool:
    command = parse_command(question.text)
    return command is not None and command.bypasses


def _takes_over(shown: list[Event], message: MessageId) -> bool:
    """A waiting /retry shows as the last turn, waiting anew."""
    if not shown:
        return False
    shown[-1].update(message=message, state="waiting", html="", failure=None)
    return True
