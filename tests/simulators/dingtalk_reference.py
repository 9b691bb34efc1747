"""A bot as DingTalk's own tutorials write it, with dingtalk_stream alone: `python -m tests.simulators.dingtalk_reference
CLIENT_ID CLIENT_SECRET` with DINGTALK_OPENAPI_ENDPOINT in the environment. The simulated DingTalk is tried with it.

What it does depends on the first word it is told: `card` and `fail` are special, a picture is answered with its
address, everything else is repeated.
"""

from __future__ import annotations

import sys
from typing import Any

import dingtalk_stream
from dingtalk_stream import AckMessage, ChatbotMessage

from tests.simulators.dingtalk_world import TEMPLATES


class Bot(dingtalk_stream.ChatbotHandler):  # type: ignore[misc]  # the SDK has no types
    async def process(self, callback: Any) -> tuple[int, str]:
        message = ChatbotMessage.from_dict(callback.data)
        if message.message_type == "picture":
            (code,) = message.get_image_list()
            self.reply_text(self.get_image_download_url(code), message)
            return AckMessage.STATUS_OK, "OK"
        match message.text.content.split():
            case ["card", *words]:
                await self._stream(message, words)
            case ["fail", "silently"]:
                raise ValueError("as I was told")
            case ["fail", *_]:
                return AckMessage.STATUS_SYSTEM_EXCEPTION, "as I was told"
            case words:
                self.reply_markdown("Echo", " ".join(words), message)
        return AckMessage.STATUS_OK, "OK"

    async def _stream(self, message: Any, words: list[str]) -> None:
        card = dingtalk_stream.AICardReplier(self.dingtalk_client, message)
        template, key = next(iter(TEMPLATES.items()))
        id = await card.async_create_and_deliver_card(template, {key: ""})
        for number in range(1, len(words) + 1):
            text = " ".join(words[:number])
            await card.async_streaming(id, key, text, append=False, finished=number == len(words), failed=False)


def main() -> None:
    client = dingtalk_stream.DingTalkStreamClient(dingtalk_stream.Credential(*sys.argv[1:3]))
    client.register_callback_handler(ChatbotMessage.TOPIC, Bot())
    client.start_forever()


if __name__ == "__main__":
    main()
