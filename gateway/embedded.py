"""The embedded model as a ChatClient: waits until it is loaded, follows it when it is restarted."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

from core.chat import ChatMessage, ChatStream
from core.chatgpt import ChatGPTClient
from gateway.local_model import SLOTS, LocalModel


class EmbeddedChat:
    """Implements core.chat.ChatClient."""

    def __init__(self, client: ChatGPTClient, model: LocalModel) -> None:
        self._client = client
        self._model = model

    @asynccontextmanager
    async def stream(
        self,
        messages: Sequence[ChatMessage],
        *,
        end_user: str,
        model: str | None = None,
        options: Mapping[str, Any] | None = None,
    ) -> AsyncIterator[ChatStream]:
        """As the protocol says. Raises ChatUnavailable when the model cannot be loaded."""
        del model  # there is but one
        await self._model.ready()
        settings = self._client.settings
        if settings.base_url != self._model.base_url:
            self._client.settings = replace(
                settings,
                base_url=self._model.base_url,
                api_key=self._model.api_key,
                model=self._model.model,
                fallback_models=(),
                concurrency=SLOTS,  # the fair gate queues, not the model's server
            )
        async with self._client.stream(messages, end_user=end_user, options=options) as answer:
            yield answer
