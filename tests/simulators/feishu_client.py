"""Feishu's own SDK as a program, to check the simulated platform with something that was not written for it.

    python -m tests.simulators.feishu_client URL APP_ID APP_SECRET ENCRYPT_KEY VERIFICATION_TOKEN

It says what it sees as JSON, one line each: `ready` with the port where it takes webhooks, then every event. It answers
each message with a card that grows, and does with it what a message tells: `list`, `fetch`, `react`.
"""

from __future__ import annotations

import json
import sys
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any

import lark_oapi  # type: ignore[import-untyped]  # it brings no types
from lark_oapi.api.cardkit.v1 import (  # type: ignore[import-untyped]  # the same
    ContentCardElementRequest,
    ContentCardElementRequestBody,
    CreateCardRequest,
    CreateCardRequestBody,
    SettingsCardRequest,
    SettingsCardRequestBody,
)
from lark_oapi.api.im.v1 import (  # type: ignore[import-untyped]  # the same
    CreateMessageReactionRequest,
    CreateMessageReactionRequestBody,
    Emoji,
    GetMessageResourceRequest,
    ListMessageRequest,
    P2ImMessageReceiveV1,
    ReplyMessageRequest,
    ReplyMessageRequestBody,
)
from lark_oapi.core.model import RawRequest  # type: ignore[import-untyped]  # the same
from lark_oapi.event.callback.model.p2_card_action_trigger import P2CardActionTrigger, P2CardActionTriggerResponse  # type: ignore[import-untyped]  # the same

CARD = {
    "schema": "2.0",
    "config": {"streaming_mode": True},
    "body": {"elements": [{"tag": "markdown", "content": "…", "element_id": "answer"}]},
}


_telling = threading.Lock()
"""The SDK's threads speak at the same time, and `print` writes a line and its end one after the other."""


def tell(kind: str, **more: Any) -> None:
    """One line for whoever started this."""
    with _telling:
        print(json.dumps({"kind": kind, **more}), flush=True)


class Bot:
    """What is done with a message."""

    def __init__(self, client: lark_oapi.Client) -> None:
        self.client = client

    def received(self, event: P2ImMessageReceiveV1) -> None:
        """A handler of the SDK: when it returns, the event is acknowledged; raising refuses it."""
        message = event.event.message
        text = json.loads(message.content).get("text", "")
        tell("message", id=message.message_id, text=text, chat=message.chat_id, sender=event.event.sender.sender_type)
        if text == "refuse":
            raise RuntimeError("as it was asked to")
        threading.Thread(target=self._answer, args=(message.message_id, message.chat_id, text), daemon=True).start()

    def clicked(self, event: P2CardActionTrigger) -> P2CardActionTriggerResponse:
        """A callback: what is returned is its answer."""
        tell("click", value=event.event.action.value)
        return P2CardActionTriggerResponse({"toast": {"type": "info", "content": "seen"}})

    def _answer(self, question: str, chat: str, text: str) -> None:
        kind, _, rest = text.partition(" ")
        match kind:
            case "list":
                request = ListMessageRequest.builder().container_id_type("chat").container_id(chat).page_size(2).build()
                listed = self.client.im.v1.message.list(request)
                told = [json.loads(item.body.content).get("text") for item in listed.data.items]
                tell("listed", texts=told, more=listed.data.has_more)
            case "fetch":
                id, key, type = rest.split()
                fetched = self.client.im.v1.message_resource.get(
                    GetMessageResourceRequest.builder().message_id(id).file_key(key).type(type).build()
                )
                content = fetched.file.read().decode() if fetched.success() else ""
                tell("fetched", code=fetched.code, name=fetched.file_name, content=content)
            case "react":
                emoji = Emoji.builder().emoji_type("Typing").build()
                body = CreateMessageReactionRequestBody.builder().reaction_type(emoji).build()
                request = CreateMessageReactionRequest.builder().message_id(question).request_body(body).build()
                tell("reacted", code=self.client.im.v1.message_reaction.create(request).code)
            case _:
                self._grow(question, text)

    def _grow(self, question: str, text: str) -> None:
        cards = self.client.cardkit.v1
        body = CreateCardRequestBody.builder().type("card_json").data(json.dumps(CARD)).build()
        created = cards.card.create(CreateCardRequest.builder().request_body(body).build())
        content = json.dumps({"type": "card", "data": {"card_id": created.data.card_id}})
        reply = ReplyMessageRequestBody.builder().msg_type("interactive").content(content).uuid(question).build()
        sent = self.client.im.v1.message.reply(
            ReplyMessageRequest.builder().message_id(question).request_body(reply).build()
        )
        codes = [created.code, sent.code]
        for sequence, shown in enumerate((f"You said {text}", f"You said {text} &lt;once&gt;"), start=1):
            new = ContentCardElementRequestBody.builder().content(shown).sequence(sequence).build()
            request = ContentCardElementRequest.builder().card_id(created.data.card_id).element_id("answer")
            codes.append(cards.card_element.content(request.request_body(new).build()).code)
        over = SettingsCardRequestBody.builder().settings('{"config":{"streaming_mode":false}}').sequence(3).build()
        request = SettingsCardRequest.builder().card_id(created.data.card_id).request_body(over).build()
        codes.append(cards.card.settings(request).code)
        tell("answered", codes=codes, message=sent.data.message_id)


def take_webhooks(handler: lark_oapi.EventDispatcherHandler) -> int:
    """Serve the SDK's handler over HTTP; returns the port."""

    class Door(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            request = RawRequest()
            request.uri = self.path
            request.body = self.rfile.read(int(self.headers["Content-Length"]))
            # The SDK looks for its headers by their exact names.
            request.headers = {name: value for name, value in self.headers.items() if name.startswith("X-Lark")}
            response = handler.do(request)
            self.send_response(response.status_code)
            self.send_header("Content-Type", "application/json")
            self.end_headers()
            self.wfile.write(response.content)

        def log_message(self, format: str, *args: Any) -> None:
            pass

    server = HTTPServer(("127.0.0.1", 0), Door)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return server.server_port


def main(url: str, app_id: str, app_secret: str, encrypt_key: str, verification_token: str) -> None:
    """Connect, and stay until killed."""
    client = lark_oapi.Client.builder().app_id(app_id).app_secret(app_secret).domain(url).build()
    bot = Bot(client)
    handler = (
        lark_oapi.EventDispatcherHandler.builder(encrypt_key, verification_token)
        .register_p2_im_message_receive_v1(bot.received)
        .register_p2_im_message_message_read_v1(lambda event: tell("read", ids=event.event.message_id_list))
        .register_p2_card_action_trigger(bot.clicked)
        .build()
    )
    tell("ready", port=take_webhooks(handler))
    lark_oapi.ws.Client(app_id, app_secret, event_handler=handler, domain=url).start()


if __name__ == "__main__":
    main(*sys.argv[1:])
