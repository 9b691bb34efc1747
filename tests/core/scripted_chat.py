"""A model that does what a test tells it."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any

from core.chat import ChatMessage, ChatStream, Usage

Step = str | Exception | asyncio.Event
"""A piece of the answer, an error, or something to wait for."""


class _Stream:
    def __init__(self, steps: Sequence[Step], model: str, usage: Usage | None) -> None:
        self.model = model
        self._counted = usage
        self.usage: Usage | None = None
        self.finish_reason: str | None = None
        self._steps = steps

    async def __aiter__(self) -> AsyncIterator[str]:
        for step in self._steps:
            if isinstance(step, asyncio.Event):
                await step.wait()
            elif isinstance(step, Exception):
                raise step
            else:
                yield step
        self.finish_reason = "stop"
        self.usage = self._counted


class ScriptedChat:
    """Satisfies core.chat.ChatClient. Answers with the next of `answers`, else with `default`."""

    def __init__(self) -> None:
        self.answers: deque[Sequence[Step]] = deque()
        self.default: Callable[[Sequence[ChatMessage]], Sequence[Step]] = lambda prompt: [
            f"answer to {prompt[-1].content}"
        ]
        self.prompts: list[tuple[ChatMessage, ...]] = []
        self.people: list[str] = []
        self.models: list[str | None] = []
        self.running = 0
        self.most_at_once = 0
        self.cancelled = 0
        self.usage: Usage | None = Usage(10, 5)

    def will(self, *steps: Step) -> None:
        """The next answer."""
        self.answers.append(steps)

    @property
    def questions(self) -> list[str]:
        """What was asked, without history."""
        return [prompt[-1].content for prompt in self.prompts]

    def stream(
        self,
        messages: Sequence[ChatMessage],
        *,
        end_user: str,
        model: str | None = None,
        options: Mapping[str, Any] | None = None,
    ) -> AbstractAsyncContextManager[ChatStream]:
        del options
        return self._stream(messages, end_user, model)

    @asynccontextmanager
    async def _stream(
        self, messages: Sequence[ChatMessage], end_user: str, model: str | None
    ) -> AsyncIterator[ChatStream]:
        self.prompts.append(tuple(messages))
        self.people.append(end_user)
        self.models.append(model)
        steps = list(self.answers.popleft() if self.answers else self.default(messages))
        self.running += 1
        self.most_at_once = max(self.most_at_once, self.running)
        try:
            while steps and not isinstance(steps[0], str):
                step = steps.pop(0)
                if isinstance(step, Exception):
                    raise step
                assert isinstance(step, asyncio.Event)
                await step.wait()
            yield _Stream(steps, model or "test-model", self.usage)
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        finally:
            self.running -= 1
