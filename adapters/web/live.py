"""What happens in conversations right now, as state that pages read at their own pace.

Nothing is queued for a page: an answer grows here, and each page takes what it has not seen when it can. Markdown is
rendered once for all pages, and only when one looks.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum

from core.adapter import Failure, IdempotencyKey
from core.markdown.html import HtmlStream
from core.messages import ChannelId, MessageId, ThreadId

_IDLE_CONVERSATIONS = 200
"""Kept although nobody watches and nothing runs, so that a page that reconnects finds replies to commands."""
_ANSWERS = 16
_QUESTIONS = 64
_ANSWER_CHARACTERS = 1_000_000
"""Shown while it grows; the whole text follows when it is done."""


class AnswerState(StrEnum):
    RUNNING = "running"
    DONE = "done"
    STOPPED = "stopped"
    """Broken off; what is shown is all there is."""
    FAILED = "failed"


class Answer:
    """A reply as it is shown: settled HTML that only grows, and a tail that is replaced."""

    def __init__(self, key: IdempotencyKey, message: MessageId) -> None:
        self.key = key
        self.message = message
        """The question it replies to."""
        self.state = AnswerState.RUNNING
        self.failure: Failure | None = None
        self.version = 0
        """Grows when the text was replaced as a whole: pages start anew."""
        self.settled: list[str] = []
        self.tail = ""
        self._begin()

    def _begin(self) -> None:
        self.settled = []
        self.tail = ""
        self.version += 1
        self._text: list[str] = []
        self._unread: list[str] = []
        self._size = 0
        self._stream: HtmlStream | None = HtmlStream()

    @property
    def ended(self) -> bool:
        """Whether nothing more is expected."""
        return self.state is not AnswerState.RUNNING

    def append(self, text: str) -> None:
        """The next piece of CommonMark."""
        self._size += len(text)
        if self._size <= _ANSWER_CHARACTERS:
            self._text.append(text)
            self._unread.append(text)

    def end(self) -> None:
        """The text is complete."""
        self.state = AnswerState.DONE

    def break_off(self) -> None:
        """No more text will come, and it is not complete."""
        self.state = AnswerState.STOPPED

    def settle(self, text: str) -> None:
        """The whole text is known, whatever was shown before. Doing so twice changes nothing."""
        if "".join(self._text).strip() != text.strip():
            self._begin()
            self.append(text)
        if self.state is not AnswerState.STOPPED:
            self.state = AnswerState.DONE
        self.failure = None

    def fail(self, failure: Failure) -> None:
        """There is no answer; what was shown of it stays."""
        self.state = AnswerState.FAILED
        self.failure = failure

    def render(self) -> None:
        """Bring `settled` and `tail` up to date. Costs what was added since the last time."""
        if self._stream is None:
            return
        if self._unread:
            update = self._stream.feed("".join(self._unread))
            self._unread.clear()
            self._add(update.settled, update.tail)
        if self.ended:
            update = self._stream.finish()
            self._stream = None
            self._add(update.settled, update.tail)

    def _add(self, settled: str, tail: str) -> None:
        if settled:
            self.settled.append(settled)
        self.tail = tail

    @property
    def html(self) -> str:
        """All of it."""
        self.render()
        return "".join(self.settled) + self.tail


@dataclass(frozen=True, slots=True)
class Question:
    """A question that was accepted by this process."""

    message: MessageId
    text: str
    at: datetime
    retry: bool = False
    """The newest question is to be answered again."""


@dataclass(eq=False)
class Conversation:
    """One conversation: its latest questions and replies, and the pages that show it."""

    answers: OrderedDict[IdempotencyKey, Answer] = field(default_factory=OrderedDict)
    questions: OrderedDict[MessageId, Question] = field(default_factory=OrderedDict)
    watchers: dict[object, Callable[[], None]] = field(default_factory=dict)

    def changed(self) -> None:
        """Tell the pages to look."""
        for wake in tuple(self.watchers.values()):
            wake()

    def ask(self, question: Question) -> None:
        """A question was accepted."""
        self.questions[question.message] = question
        while len(self.questions) > _QUESTIONS:
            self.questions.popitem(last=False)
        self.changed()

    def answer(self, key: IdempotencyKey, message: MessageId, *, anew: bool = False) -> Answer:
        """The reply with this key. `anew` begins it again, as after a crash."""
        found = self.answers.get(key)
        if found is None:
            found = self.answers[key] = Answer(key, message)
            ended = [key for key, answer in self.answers.items() if answer.ended]
            for old in ended[: max(0, len(self.answers) - _ANSWERS)]:
                del self.answers[old]
        elif anew:
            version = found.version
            found = self.answers[key] = Answer(key, message)
            found.version = version + 1
        return found

    @property
    def idle(self) -> bool:
        """Nobody watches and nothing runs."""
        return not self.watchers and all(answer.ended for answer in self.answers.values())


class Conversations:
    """The conversations of this process. Bounded: idle ones are forgotten, the store has their turns."""

    def __init__(self, *, idle: int = _IDLE_CONVERSATIONS) -> None:
        self._all: OrderedDict[tuple[ChannelId, ThreadId], Conversation] = OrderedDict()
        self._most_idle = idle

    def __len__(self) -> int:
        return len(self._all)

    def get(self, browser: ChannelId, thread: ThreadId) -> Conversation:
        """The conversation `thread` of `browser`, made when it is not known yet."""
        key = (browser, thread)
        found = self._all.get(key)
        if found is None:
            found = self._all[key] = Conversation()
        self._all.move_to_end(key)
        return found

    def drop(self, browser: ChannelId, thread: ThreadId) -> None:
        """Forget one, as when it was deleted. Pages that watch it keep what they hold."""
        self._all.pop((browser, thread), None)

    def tidy(self) -> None:
        """Forget the longest idle ones beyond the bound. Call when a page leaves or an answer ends."""
        if len(self._all) <= self._most_idle:
            return
        idle = [key for key, conversation in self._all.items() if conversation.idle]
        for key in idle[: max(0, len(idle) - self._most_idle)]:
            del self._all[key]
