"""The simulated Feishu against Feishu's own SDK, and against mistakes that it has to notice."""

from __future__ import annotations

import asyncio
import json
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import aiohttp
import pytest

from tests.contract.platform import File
from tests.contract.world import until
from tests.simulators.feishu import SimulatedFeishu
from tests.simulators.feishu_delivery import MOST_SOCKETS
from tests.simulators.feishu_frame import CONTROL, Frame
from tests.simulators.feishu_rest import Fault


@dataclass
class Reference:
    """The SDK as a process, and what it said."""

    process: asyncio.subprocess.Process
    said: list[dict[str, Any]]

    async def says(self, kind: str) -> dict[str, Any]:
        """The next line of a kind; earlier lines of other kinds are forgotten."""
        found: dict[str, Any] = {}

        def there() -> bool:
            while self.said and not found:
                line = self.said.pop(0)
                found.update(line if line["kind"] == kind else {})
            return bool(found)

        await until(there)
        return found


@asynccontextmanager
async def reference(feishu: SimulatedFeishu) -> AsyncIterator[Reference]:
    """The SDK, connected; its webhooks are the request address of the app `bot`."""
    account = feishu.account()
    keys = [account[name] for name in ("app_id", "app_secret", "encrypt_key", "verification_token")]
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-W", "ignore", "-m", "tests.simulators.feishu_client", feishu.url, *keys),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,
    )
    client = Reference(process, [])

    async def read() -> None:
        assert process.stdout is not None
        async for line in process.stdout:
            if line.startswith(b"{"):  # its log goes there as well
                client.said.append(json.loads(line))

    reading = asyncio.create_task(read())
    try:
        async with asyncio.timeout(120):
            while not client.said:
                await asyncio.sleep(0.05)
            ready = await client.says("ready")
            await feishu.delivery.listening("bot")
        feishu.state.app("bot").url = f"http://127.0.0.1:{ready['port']}/"
        yield client
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()
        await reading


@pytest.mark.slow
async def test_the_sdk_gets_along_with_it() -> None:
    async with SimulatedFeishu() as feishu, reference(feishu) as sdk:
        asked = await feishu.person_writes("hello")
        assert (await sdk.says("message"))["text"] == "hello"
        answered = await sdk.says("answered")
        assert answered["codes"] == [0, 0, 0, 0, 0]
        (reply,) = feishu.visible(asked.room)
        assert (reply.id, reply.text, reply.growing) == (answered["message"], "You said hello <once>", False)
        assert list(reply.versions) == ["…", "You said hello", "You said hello <once>"]

        feishu.delivery.pieces = 5
        in_group = await feishu.person_writes("in pieces", direct=False)
        assert (await sdk.says("message"))["text"] == "@_user_1 in pieces"
        await sdk.says("answered")
        await until(lambda: feishu.acknowledged(in_group) == 1)
        feishu.delivery.pieces = 1

        await feishu.person_writes("list")
        listed = await sdk.says("listed")
        assert (listed["texts"][0], listed["more"]) == ("hello", True)
        await feishu.person_writes("react")
        assert (await sdk.says("reacted"))["code"] == 0
        sent = await feishu.person_writes("", files=(File(content=b"what is in it"),))
        key = json.loads(feishu.state.messages[sent.message].content)["file_key"]
        await feishu.person_writes(f"fetch {sent.message} {key} file")
        fetched = await sdk.says("fetched")
        assert (fetched["code"], fetched["name"], fetched["content"]) == (0, "notes.txt", "what is in it")

        click = feishu.person_clicks(reply.id, {"n": 1})
        assert (await sdk.says("click"))["value"] == {"n": 1}
        await until(lambda: feishu.delivery.acknowledged[click] == 1)
        assert feishu.delivery.answers[click] == {"toast": {"type": "info", "content": "seen"}}

        feishu.state.speed = 1000.0  # 15 seconds pass in 15 milliseconds, six hours in 22 seconds
        refused = await feishu.person_writes("refuse")
        await until(lambda: feishu.delivery.attempts[refused.event] == 3)
        assert feishu.acknowledged(refused) == 0
        assert feishu.delivery.refused[refused.event] >= 2
        feishu.state.speed = 1.0

        await feishu.drop()
        await feishu.delivery.listening("bot")
        await feishu.person_writes("after a drop")
        await until(lambda: any(line.get("text") == "after a drop" for line in sdk.said))
        assert list(feishu.complaints()) == []


@pytest.mark.slow
@pytest.mark.parametrize("encrypted", [True, False])
async def test_the_sdk_takes_its_webhooks(encrypted: bool) -> None:
    async with SimulatedFeishu() as feishu:
        app = feishu.state.app("bot")
        app.encrypted = encrypted
        async with reference(feishu) as sdk:
            app.mode = feishu.mode = "webhook"
            assert await feishu.delivery.verify(app)
            asked = await feishu.person_writes("by HTTP")
            assert (await sdk.says("message"))["text"] == "by HTTP"
            await sdk.says("answered")
            await until(lambda: feishu.acknowledged(asked) == 1)
            refused = await feishu.person_writes("refuse")
            await until(lambda: feishu.delivery.refused[refused.event] == 1)
            assert feishu.acknowledged(refused) == 0
            assert list(feishu.complaints()) == []


class Caller:
    """An app that calls by hand."""

    def __init__(self, feishu: SimulatedFeishu, session: aiohttp.ClientSession) -> None:
        self.feishu, self.session, self.token = feishu, session, ""

    async def sign_in(self) -> dict[str, Any]:
        account = self.feishu.account()
        body = {"app_id": account["app_id"], "app_secret": account["app_secret"]}
        answer = await self.call("POST", "/auth/v3/tenant_access_token/internal", **body)
        self.token = answer.get("tenant_access_token", "")
        return answer

    async def call(self, method: str, path: str, **body: Any) -> dict[str, Any]:
        headers = {"Authorization": f"Bearer {self.token}"} if self.token else {}
        url = f"{self.feishu.url}/open-apis{path}"
        async with self.session.request(method, url, json=body or None, headers=headers) as response:
            return {"status": response.status, **await response.json()}

    async def send(self, chat: str, text: str, **more: Any) -> dict[str, Any]:
        content = json.dumps({"text": text})
        body = {"receive_id": chat, "msg_type": "text", "content": content, **more}
        return await self.call("POST", "/im/v1/messages?receive_id_type=chat_id", **body)

    async def card(self, text: str = "…", *, streaming: bool = True) -> str:
        markdown = {"tag": "markdown", "content": text, "element_id": "answer"}
        data = {"schema": "2.0", "config": {"streaming_mode": streaming}, "body": {"elements": [markdown]}}
        made = await self.call("POST", "/cardkit/v1/cards", type="card_json", data=json.dumps(data))
        return str(made["data"]["card_id"])

    async def grow(self, card: str, text: str, sequence: int) -> int:
        path = f"/cardkit/v1/cards/{card}/elements/answer/content"
        return int((await self.call("PUT", path, content=text, sequence=sequence))["code"])


@pytest.fixture
async def feishu() -> AsyncIterator[SimulatedFeishu]:
    async with SimulatedFeishu() as feishu:
        yield feishu


@pytest.fixture
async def caller(feishu: SimulatedFeishu) -> AsyncIterator[Caller]:
    async with aiohttp.ClientSession() as session:
        caller = Caller(feishu, session)
        await caller.sign_in()
        yield caller


def room(feishu: SimulatedFeishu) -> str:
    return feishu.room("ann", "general", True, "bot").id


async def test_a_token_stays_the_same_until_half_an_hour_is_left(feishu: SimulatedFeishu, caller: Caller) -> None:
    first = caller.token
    assert (await caller.sign_in())["expire"] > 7100
    assert caller.token == first
    feishu.state.app("bot").tokens[first] -= 5401
    await caller.sign_in()
    assert caller.token != first
    caller.token = first
    assert (await caller.call("GET", "/bot/v3/info"))["bot"]["open_id"] == feishu.state.app("bot").open_id
    feishu.forget_tokens()
    assert (await caller.call("GET", "/bot/v3/info"))["code"] == 99991663
    assert feishu.complaints() == []


async def test_wrong_credentials_and_missing_scopes_have_their_codes(feishu: SimulatedFeishu, caller: Caller) -> None:
    feishu.state.app("bot").scopes -= {"im:message:send_as_bot"}
    refused = await caller.send(room(feishu), "hello")
    assert (refused["status"], refused["code"]) == (400, 99991672)
    feishu.refuse_credentials()
    assert (await caller.sign_in())["code"] == 10014
    wrong = await caller.call("POST", "/auth/v3/tenant_access_token/internal", app_id="cli_a999", app_secret="x")
    assert (wrong["status"], wrong["code"], wrong["msg"]) == (200, 10014, "app id not exists")


async def test_an_app_sees_what_it_lacks(feishu: SimulatedFeishu, caller: Caller) -> None:
    app = feishu.state.app("bot")
    app.scopes -= {"cardkit:card:write"}
    scopes = (await caller.call("GET", "/application/v6/scopes"))["data"]["scopes"]
    assert [each["scope_name"] for each in scopes if each["grant_status"] == 1] == sorted(app.scopes)
    seen = (await caller.call("GET", "/application/v6/applications/me?lang=zh_cn"))["data"]["app"]
    path = f"/application/v6/applications/{app.id}/app_versions/{seen['online_version_id']}?lang=zh_cn"
    assert (await caller.call("GET", path))["data"]["app_version"]["events"] == ["im.message.receive_v1"]
    app.published = False
    assert (
        "online_version_id"
        not in (await caller.call("GET", "/application/v6/applications/me?lang=zh_cn"))["data"]["app"]
    )
    assert feishu.complaints() == []


async def test_the_same_uuid_sends_once(feishu: SimulatedFeishu, caller: Caller) -> None:
    ids = {(await caller.send(room(feishu), "once", uuid="u1"))["data"]["message_id"] for _ in range(3)}
    assert len(ids) == len(feishu.visible(room(feishu))) == 1
    assert feishu.complaints() == []
    await caller.send(room(feishu), "another", uuid="u1")
    assert [text for text in feishu.complaints() if "another content" in text]
    assert [each.text for each in feishu.visible(room(feishu))] == ["once"]


@pytest.mark.parametrize(
    ("body", "code"),
    [
        ({"msg_type": "text", "content": {"text": "not a string"}}, 230001),
        ({"msg_type": "text", "content": "not JSON"}, 230001),
        ({"msg_type": "text", "content": '{"text": " "}'}, 230001),
        ({"msg_type": "text", "content": json.dumps({"text": "x" * 160_000})}, 230025),
        ({"msg_type": "post", "content": '{"title": "", "content": [[{"tag": "text", "text": "bare"}]]}'}, 230001),
        ({"msg_type": "interactive", "content": json.dumps({"schema": "2.0", "body": {"elements": "x"}})}, 230099),
        ({"msg_type": "interactive", "content": '{"type": "card", "data": {"card_id": "7"}}'}, 230099),
        ({"msg_type": "text", "content": '{"text": "x"}', "uuid": "u" * 51}, 230001),
    ],
)
async def test_what_is_malformed_is_refused_and_complained_of(
    feishu: SimulatedFeishu, caller: Caller, body: dict[str, Any], code: int
) -> None:
    path = "/im/v1/messages?receive_id_type=chat_id"
    answer = await caller.call("POST", path, receive_id=room(feishu), **body)
    assert (answer["status"], answer["code"]) == (400, code)
    assert len(feishu.complaints()) == 1
    assert feishu.visible(room(feishu)) == []


@pytest.mark.parametrize(
    ("markdown", "found"),
    [
        ("| a |\n|---|\n| 1 |\n\n" * 4, "11310"),
        ("![x](https://example.com/x.png)", "200570"),
        ("```\n" + "| a |\n|---|\n| 1 |\n\n" * 4 + "```\n`![x](y)`", ""),
        ("| a |\n|---|\n| 1 |\n\n" * 3 + "---\n\n---\n", ""),
    ],
)
async def test_a_card_that_cannot_be_shown_is_refused(caller: Caller, markdown: str, found: str) -> None:
    elements = [{"tag": "markdown", "content": markdown}]
    card = json.dumps({"schema": "2.0", "body": {"elements": elements}})
    answer = await caller.call("POST", "/cardkit/v1/cards", type="card_json", data=card)
    assert answer["code"] == (230099 if found else 0)
    assert found in answer["msg"]


async def test_more_than_five_messages_a_second_are_too_many(feishu: SimulatedFeishu, caller: Caller) -> None:
    codes = [(await caller.send(room(feishu), f"message {number}"))["code"] for number in range(6)]
    assert codes == [0, 0, 0, 0, 0, 230020]
    assert (await caller.send(feishu.room("bob", "", True, "bot").id, "elsewhere"))["code"] == 0
    assert len(feishu.complaints()) == 1


async def test_a_pause_that_is_not_kept_is_complained_of(feishu: SimulatedFeishu, caller: Caller) -> None:
    feishu.limit_rate(60)
    path = f"{feishu.url}/open-apis/im/v1/messages?receive_id_type=chat_id"
    body = {"receive_id": room(feishu), "msg_type": "text", "content": '{"text":"x"}'}
    headers = {"Authorization": f"Bearer {caller.token}"}
    async with caller.session.post(path, json=body, headers=headers) as response:
        assert (response.status, response.headers["x-ogw-ratelimit-reset"]) == (429, "60")
        assert (await response.json())["code"] == 99991400
    assert feishu.complaints() == []
    await caller.send(room(feishu), "too early")
    assert len(feishu.complaints()) == 1


async def test_a_thousand_calls_a_minute_are_the_limit_of_each_api(feishu: SimulatedFeishu, caller: Caller) -> None:
    feishu.api.per_minute = 3
    assert [(await caller.call("GET", "/bot/v3/info"))["code"] for _ in range(4)] == [0, 0, 0, 99991400]
    assert (await caller.call("GET", "/application/v6/scopes"))["code"] == 0
    assert feishu.complaints() == []


async def test_a_broken_send_takes_effect_or_not(feishu: SimulatedFeishu, caller: Caller) -> None:
    for after in (True, False):
        feishu.break_send(after=after)
        with pytest.raises(aiohttp.ClientError):
            await caller.send(room(feishu), f"after: {after}", uuid=str(after))
    assert [each.text for each in feishu.visible(room(feishu))] == ["after: True"]
    feishu.api.faults.append(Fault(("bot.v3.info",), "code", code=99991663))
    assert (await caller.call("GET", "/bot/v3/info"))["code"] == 99991663
    assert feishu.complaints() == []


async def test_a_card_grows_in_sequence_while_it_streams(feishu: SimulatedFeishu, caller: Caller) -> None:
    card = await caller.card()
    content = json.dumps({"type": "card", "data": {"card_id": card}})
    path = "/im/v1/messages?receive_id_type=chat_id"
    await caller.call("POST", path, receive_id=room(feishu), msg_type="interactive", content=content)
    assert [await caller.grow(card, text, number) for number, text in enumerate(("a", "ab"), start=5)] == [0, 0]
    assert feishu.visible(room(feishu))[0].growing
    assert await caller.grow(card, "abc", 6) == 300317
    assert len(feishu.complaints()) == 1
    settings = json.dumps({"config": {"streaming_mode": False}})
    await caller.call("PATCH", f"/cardkit/v1/cards/{card}/settings", settings=settings, sequence=7)
    assert await caller.grow(card, "abc", 8) == 300309
    (shown,) = feishu.visible(room(feishu))
    assert (shown.text, list(shown.versions), shown.growing) == ("ab", ["…", "a", "ab"], False)
    again = await caller.call("POST", path, receive_id=room(feishu), msg_type="interactive", content=content)
    assert again["code"] == 230099


async def test_a_stream_ends_by_itself(feishu: SimulatedFeishu, caller: Caller) -> None:
    feishu.state.speed = 6000.0  # ten minutes in a tenth of a second
    card = await caller.card()
    await until(lambda: not feishu.state.is_streaming(feishu.state.cards[card]))
    caller.feishu.state.speed = 1.0
    assert [await caller.grow(card, "late", number) for number in (1, 2)] == [200850, 300309]
    settings = json.dumps({"config": {"streaming_mode": True}})
    await caller.call("PATCH", f"/cardkit/v1/cards/{card}/settings", settings=settings, sequence=3)
    assert await caller.grow(card, "again", 4) == 0


async def test_ten_operations_a_second_are_the_limit_of_a_card(feishu: SimulatedFeishu, caller: Caller) -> None:
    card = await caller.card()
    codes = [await caller.grow(card, "x" * number, number) for number in range(1, 12)]
    assert codes == [0] * 10 + [99991400]
    assert len(feishu.complaints()) == 1


async def test_a_card_is_changed_in_parts(feishu: SimulatedFeishu, caller: Caller) -> None:
    card = await caller.card("first", streaming=False)
    actions = [
        {
            "action": "add_elements",
            "params": {
                "type": "insert_after",
                "target_element_id": "answer",
                "elements": [{"tag": "markdown", "content": "second", "element_id": "more"}],
            },
        },
        {
            "action": "partial_update_element",
            "params": {"element_id": "answer", "partial_element": {"content": "changed"}},
        },
    ]
    path = f"/cardkit/v1/cards/{card}/batch_update"
    assert (await caller.call("POST", path, actions=json.dumps(actions), sequence=1))["code"] == 0
    assert [each["content"] for each in feishu.state.cards[card].data["body"]["elements"]] == ["changed", "second"]
    assert feishu.complaints() == []


async def test_a_card_of_its_own_is_replaced_and_an_entity_is_not(feishu: SimulatedFeishu, caller: Caller) -> None:
    def content(text: str) -> str:
        elements = [{"tag": "markdown", "content": text}]
        return json.dumps({"schema": "2.0", "config": {"update_multi": True}, "body": {"elements": elements}})

    path = "/im/v1/messages?receive_id_type=chat_id"
    body = {"receive_id": room(feishu), "msg_type": "interactive", "content": content("a")}
    sent = (await caller.call("POST", path, **body))["data"]["message_id"]
    assert (await caller.call("PATCH", f"/im/v1/messages/{sent}", content=content("b")))["code"] == 0
    assert [each.text for each in feishu.visible(room(feishu))] == ["b"]
    assert feishu.complaints() == []
    body["content"] = json.dumps({"type": "card", "data": {"card_id": await caller.card()}})
    sent = (await caller.call("POST", path, **body))["data"]["message_id"]
    assert (await caller.call("PATCH", f"/im/v1/messages/{sent}", content=content("b")))["code"] == 230001


async def test_a_message_is_edited_twenty_times(feishu: SimulatedFeishu, caller: Caller) -> None:
    sent = (await caller.send(room(feishu), "0"))["data"]["message_id"]
    codes = [
        (
            await caller.call(
                "PUT", f"/im/v1/messages/{sent}", msg_type="text", content=json.dumps({"text": str(number)})
            )
        )["code"]
        for number in range(21)
    ]
    assert codes == [0] * 20 + [230072]
    assert feishu.visible(room(feishu))[0].text == "19"


async def test_places_close(feishu: SimulatedFeishu, caller: Caller) -> None:
    asked = await feishu.person_writes("hello", direct=False)
    reply = f"/im/v1/messages/{asked.message}/reply"
    body = {"msg_type": "text", "content": '{"text": "x"}'}
    assert (await caller.call("POST", reply, **body))["data"]["parent_id"] == asked.message
    feishu.person_recalls(asked)
    assert (await caller.call("POST", reply, **body))["code"] == 230011
    feishu.remove(asked.room)
    assert (await caller.call("POST", reply, **body))["code"] == 232009
    feishu.remove(room(feishu))
    assert (await caller.send(room(feishu), "x"))["code"] == 230013
    assert feishu.complaints() == []


async def test_replies_to_a_topic_stay_in_it(caller: Caller) -> None:
    feishu = caller.feishu
    feishu.topics = True
    root = await feishu.person_writes("a topic", direct=False, channel="topics")
    assert root.thread is not None
    inside = await feishu.person_writes("more", direct=False, channel="topics", thread=root.thread)
    body = {"msg_type": "text", "content": '{"text": "an answer"}'}
    sent = (await caller.call("POST", f"/im/v1/messages/{inside.message}/reply", **body))["data"]
    assert (sent["thread_id"], sent["root_id"], sent["parent_id"]) == (root.thread, root.message, root.message)
    listed = await caller.call("GET", f"/im/v1/messages?container_id_type=chat&container_id={root.room}")
    assert [item["message_id"] for item in listed["data"]["items"]] == [root.message]
    listed = await caller.call("GET", f"/im/v1/messages?container_id_type=thread&container_id={root.thread}")
    assert len(listed["data"]["items"]) == 3
    assert [each.thread for each in feishu.visible(root.room)] == [root.thread]


async def test_the_history_is_read_in_pages_and_by_time(feishu: SimulatedFeishu, caller: Caller) -> None:
    for number in range(5):
        await feishu.person_writes(str(number), direct=False)
    chat = feishu.room("", "general", False, "bot").id
    base = f"/im/v1/messages?container_id_type=chat&container_id={chat}&page_size=2"
    first = (await caller.call("GET", f"{base}&sort_type=ByCreateTimeDesc"))["data"]
    assert [json.loads(item["body"]["content"])["text"] for item in first["items"]] == ["@_user_1 4", "@_user_1 3"]
    token = first["page_token"]
    second = (await caller.call("GET", f"{base}&sort_type=ByCreateTimeDesc&page_token={token}"))["data"]
    assert [json.loads(item["body"]["content"])["text"] for item in second["items"]] == ["@_user_1 2", "@_user_1 1"]
    assert (await caller.call("GET", f"{base}&start_time={int(time.time()) + 60}"))["data"]["items"] == []
    feishu.state.app("bot").scopes -= {"im:message.group_msg"}
    assert (await caller.call("GET", base))["code"] == 230027
    assert (await caller.call("GET", base.replace("page_size=2", "page_size=51")))["code"] == 230001


async def test_what_notifies_is_told(feishu: SimulatedFeishu, caller: Caller) -> None:
    for text in ("@everyone", "&lt;at id=all&gt;", "<at user_id='all'></at>", "<PERSON id='ou_1'>"):
        await caller.send(room(feishu), text)
    assert list(feishu.pings()) == ["<at user_id='all'></at>", "<PERSON id='ou_1'>"]


async def test_events_are_covered_by_scopes(feishu: SimulatedFeishu) -> None:
    app = feishu.state.app("bot")
    app.scopes -= {
        "im:message.group_msg",
        "im:message.p2p_msg:readonly",
        "im:message.group_at_msg.include_bot:readonly",
    }
    for delivery in (
        await feishu.person_writes("direct"),
        await feishu.person_writes("unaddressed", direct=False, mention=False),
    ):
        assert feishu.delivery.attempts[delivery.event] == 0
    await feishu.bot_writes("I am a bot", own=False)
    mentioned = await feishu.person_writes("mentioned", direct=False)
    await until(lambda: feishu.delivery.attempts[mentioned.event] == 1)
    assert sum(feishu.delivery.attempts.values()) == 1


async def test_the_fifty_first_connection_is_refused_and_one_gets_each_event(feishu: SimulatedFeishu) -> None:
    account = feishu.account()
    async with aiohttp.ClientSession() as session:

        async def address() -> str:
            body = {"AppID": account["app_id"], "AppSecret": account["app_secret"]}
            async with session.post(f"{feishu.url}/callback/ws/endpoint", json=body) as response:
                answer = await response.json()
            return str(answer["data"]["URL"])

        sockets = [await session.ws_connect(await address()) for _ in range(MOST_SOCKETS)]
        with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
            await session.ws_connect(await address())
        assert refused.value.headers is not None
        assert refused.value.headers["Handshake-Status"] == "514"
        assert refused.value.headers["Handshake-Autherrcode"] == "1000040350"
        asked = await feishu.person_writes("to one of you")
        waiting = [asyncio.create_task(socket.receive_bytes()) for socket in sockets]
        done, rest = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
        for task in rest:
            task.cancel()
        await asyncio.gather(*rest, return_exceptions=True)
        (got,) = done
        frame = Frame.decode(got.result())
        assert json.loads(frame.payload)["event"]["message"]["message_id"] == asked.message
        socket = sockets[waiting.index(got)]
        frame.payload = b'{"code":200}'
        await socket.send_bytes(frame.encode())
        await until(lambda: feishu.acknowledged(asked) == 1)
        assert feishu.complaints() == []
        await socket.send_bytes(frame.encode())
        await socket.send_bytes(Frame(1, CONTROL, {"type": "ping"}).encode())
        await socket.send_bytes(b"no frame")
        await until(lambda: len(feishu.complaints()) == 3)
        for each in sockets:
            await each.close()


async def test_refused_connections_are_refused_in_each_way(feishu: SimulatedFeishu) -> None:
    account = feishu.account()
    feishu.refuse_links(3)
    seen = []
    async with aiohttp.ClientSession() as session:
        for _ in range(4):
            body = {"AppID": account["app_id"], "AppSecret": account["app_secret"]}
            async with session.post(f"{feishu.url}/callback/ws/endpoint", json=body) as response:
                answer: dict[str, Any] = {"code": response.status}
                if response.status == 200:
                    answer = await response.json()
            if answer["code"] == 0:
                try:
                    await (await session.ws_connect(answer["data"]["URL"])).close()
                except aiohttp.WSServerHandshakeError as error:
                    answer["code"] = f"handshake {error.status}"
            seen.append(answer["code"])
    assert seen == [502, 1, "handshake 500", 0]
