"""The simulated DingTalk, with the vendor's own SDK as its client, and its refusals one by one."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from tests.contract.platform import File
from tests.contract.world import holds, until
from tests.simulators.dingtalk import SimulatedDingTalk
from tests.simulators.dingtalk_api import (
    CREATE_AND_DELIVER,
    GROUP,
    ONE_TO_ONE,
    STREAMING,
    TOKEN,
    UPDATE,
    Fault,
)
from tests.simulators.dingtalk_world import TEMPLATES

ROOT = Path(__file__).parents[2]
TEMPLATE, KEY = next(iter(TEMPLATES.items()))


@pytest.fixture
async def dingtalk() -> AsyncIterator[SimulatedDingTalk]:
    async with SimulatedDingTalk(card=True) as dingtalk:
        dingtalk.account()
        yield dingtalk


@asynccontextmanager
async def reference_bot(dingtalk: SimulatedDingTalk) -> AsyncIterator[None]:
    """A bot of the SDK's, connected."""
    app = dingtalk.world.app("bot")
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "tests.simulators.dingtalk_reference",
        app.client_id,
        app.client_secret,
        cwd=ROOT,
        env={**os.environ, "DINGTALK_OPENAPI_ENDPOINT": dingtalk.url},
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.DEVNULL,
    )
    try:
        async with asyncio.timeout(30):
            await dingtalk.listening()
        yield
    finally:
        process.kill()
        await process.wait()


class Client:
    """Calls as an adapter would make them, by hand."""

    def __init__(self, dingtalk: SimulatedDingTalk, session: aiohttp.ClientSession) -> None:
        self.dingtalk = dingtalk
        self.session = session
        self.app = dingtalk.world.app("bot")
        self.token = ""

    async def sign_in(self) -> dict[str, Any]:
        keys = {"appKey": self.app.client_id, "appSecret": self.app.client_secret}
        status, body = await self.call(TOKEN, keys)
        assert status == 200, body
        self.token = body["accessToken"]
        return body

    async def call(self, call: str, arguments: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        method, path = call.split()
        headers = {"x-acs-dingtalk-access-token": self.token} if self.token else {}
        async with self.session.request(method, self.dingtalk.url + path, json=arguments, headers=headers) as response:
            return response.status, json.loads(await response.text())

    async def code(self, call: str, arguments: dict[str, Any]) -> str:
        """The code of the refusal; empty if there is none."""
        status, body = await self.call(call, arguments)
        return "" if status == 200 else body["code"]

    async def webhook(self, url: str, body: dict[str, Any]) -> int:
        async with self.session.post(url, json=body) as response:
            assert response.status == 200
            return int((await response.json())["errcode"])

    def text(self, text: str, **more: Any) -> dict[str, Any]:
        """Arguments of a message in Markdown."""
        param = json.dumps({"title": "t", "text": text})
        return {"robotCode": self.app.robot_code, "msgKey": "sampleMarkdown", "msgParam": param, **more}

    def card(self, id: str, place: str, **more: Any) -> dict[str, Any]:
        return {
            "cardTemplateId": TEMPLATE,
            "outTrackId": id,
            "cardData": {"cardParamMap": {KEY: ""}},
            "openSpaceId": f"dtv1.card//{place}",
            "imGroupOpenSpaceModel": {"supportForward": True},
            "imRobotOpenSpaceModel": {"supportForward": True},
            "imGroupOpenDeliverModel": {"robotCode": self.app.robot_code},
            "imRobotOpenDeliverModel": {"spaceType": "IM_ROBOT"},
            **more,
        }

    def frame(self, id: str, content: str, guid: str, **more: Any) -> dict[str, Any]:
        return {"outTrackId": id, "guid": guid, "key": KEY, "content": content, "isFull": True, **more}


@pytest.fixture
async def client(dingtalk: SimulatedDingTalk) -> AsyncIterator[Client]:
    async with aiohttp.ClientSession() as session:
        client = Client(dingtalk, session)
        await client.sign_in()
        yield client


# With the SDK


async def test_the_sdk_answers_by_webhook_and_its_mention_of_the_sender_is_noticed(dingtalk: SimulatedDingTalk) -> None:
    async with reference_bot(dingtalk):
        asked = await dingtalk.person_writes("hello & there", direct=False)
        await until(lambda: dingtalk.acknowledged(asked) == 1)
        (reply,) = dingtalk.visible(asked.room)
        assert (reply.text, reply.account, reply.growing) == ("hello & there", "bot", False)
        assert len(dingtalk.pings()) == 1
    assert dingtalk.complaints() == []
    await until(lambda: dingtalk.links() == 0)


@pytest.mark.parametrize("direct", [True, False])
async def test_the_sdk_streams_into_a_card(dingtalk: SimulatedDingTalk, direct: bool) -> None:
    async with reference_bot(dingtalk):
        asked = await dingtalk.person_writes("card one two three", direct=direct)
        await until(lambda: dingtalk.acknowledged(asked) == 1)
        (card,) = dingtalk.visible(asked.room)
        assert list(card.versions) == ["one", "one two", "one two three"]
        assert (card.text, card.growing) == ("one two three", False)
    assert dingtalk.complaints() == []
    assert dingtalk.pings() == []


async def test_the_sdk_acknowledges_no_message_whose_handler_raises(dingtalk: SimulatedDingTalk) -> None:
    async with reference_bot(dingtalk):
        raised = await dingtalk.person_writes("fail silently")
        refused = await dingtalk.person_writes("fail")
        await until(lambda: dingtalk.gateway.failed[refused.event] == 1)
        await holds(lambda: dingtalk.acknowledged(raised) == dingtalk.acknowledged(refused) == 0)
        assert dingtalk.gateway.after_a_minute() == 2
        await until(lambda: dingtalk.gateway.failed[refused.event] == 2)
        assert sorted(dingtalk.gateway.unacknowledged()) == sorted([raised.event, refused.event])
    assert dingtalk.complaints() == []


async def test_the_sdk_reads_redeliveries_as_new_messages(dingtalk: SimulatedDingTalk) -> None:
    async with reference_bot(dingtalk):
        asked = await dingtalk.person_writes("twice")
        await dingtalk.redeliver(asked, times=2)
        await until(lambda: dingtalk.acknowledged(asked) == 3)
        assert [reply.text for reply in dingtalk.visible(asked.room)] == ["twice"] * 3


async def test_the_sdk_fetches_a_picture(dingtalk: SimulatedDingTalk) -> None:
    picture = File(name="a.png", media_type="image/png", content=b"PNG")
    async with reference_bot(dingtalk), aiohttp.ClientSession() as session:
        asked = await dingtalk.person_writes("", files=[picture])
        await until(lambda: dingtalk.visible(asked.room))
        async with session.get(dingtalk.visible(asked.room)[0].text) as response:
            assert (response.status, await response.read()) == (200, b"PNG")


async def test_the_sdk_comes_back_after_drops_refusals_and_farewells(dingtalk: SimulatedDingTalk) -> None:
    dingtalk.gateway.farewell = 0.2
    async with reference_bot(dingtalk):
        await dingtalk.drop()
        dingtalk.refuse_links(1)
        async with asyncio.timeout(30):
            await dingtalk.listening()
        tickets = dingtalk.gateway.opened["bot"]
        assert tickets >= 3
        await dingtalk.gateway.disconnect("bot")
        await until(lambda: dingtalk.gateway.opened["bot"] > tickets)
        async with asyncio.timeout(30):
            await dingtalk.listening()
        asked = await dingtalk.person_writes("still here")
        await until(lambda: dingtalk.acknowledged(asked) == 1)
    assert dingtalk.complaints() == []


async def test_pings_are_answered_and_a_silent_connection_says_nothing(dingtalk: SimulatedDingTalk) -> None:
    dingtalk.gateway.ping_every = 0.05
    async with reference_bot(dingtalk):
        (socket,) = dingtalk.gateway.open("bot")
        await asyncio.wait_for(_answered(socket), 10)
        dingtalk.go_silent()
        asked = await dingtalk.person_writes("anybody?")
        await holds(lambda: dingtalk.acknowledged(asked) == 0)
        assert dingtalk.links() == 1
    assert dingtalk.complaints() == []


async def _answered(socket: Any) -> None:
    while not socket.asked:
        await asyncio.sleep(0.005)
    while socket.asked:
        await asyncio.sleep(0.005)


# Credentials and the stream


async def test_a_ticket_is_good_once_and_wrong_credentials_get_none(
    dingtalk: SimulatedDingTalk, client: Client
) -> None:
    keys = {"clientId": client.app.client_id, "clientSecret": client.app.client_secret}
    topic = [{"type": "CALLBACK", "topic": "/v1.0/im/bot/messages/get"}]
    url = f"{dingtalk.url}/v1.0/gateway/connections/open"
    accept = {"Accept": "application/json"}
    async with client.session.post(url, json={**keys, "subscriptions": topic}, headers=accept) as response:
        found = await response.json()
    async with client.session.ws_connect(found["endpoint"], params={"ticket": found["ticket"]}):
        await dingtalk.listening()
    with pytest.raises(aiohttp.WSServerHandshakeError):
        await client.session.ws_connect(found["endpoint"], params={"ticket": found["ticket"]})
    async with client.session.post(url, json={**keys, "subscriptions": topic}) as response:
        assert response.content_type == "application/xml"
    dingtalk.refuse_credentials()
    async with client.session.post(url, json={**keys, "subscriptions": topic}, headers=accept) as response:
        assert (response.status, (await response.json())["code"]) == (401, "authFailed")
    assert await client.code(TOKEN, {"appKey": client.app.client_id, "appSecret": "x"}) == "invalidClientIdOrSecret"


async def test_a_token_is_the_same_while_it_lasts_and_refused_when_forgotten(
    dingtalk: SimulatedDingTalk, client: Client
) -> None:
    first = client.token
    assert (await client.sign_in())["accessToken"] == first
    room = (await dingtalk.person_writes("hello", direct=False)).room
    assert await client.code(GROUP, client.text("a", openConversationId=room)) == ""
    dingtalk.forget_tokens()
    assert await client.code(GROUP, client.text("a", openConversationId=room)) == "InvalidAuthentication"
    await client.sign_in()
    assert client.token != first
    client.app.scopes.remove("qyapi_robot_sendmsg")
    status, body = await client.call(GROUP, client.text("a", openConversationId=room))
    assert (status, body["code"]) == (403, "Forbidden.AccessDenied.AccessTokenPermissionDenied")
    assert body["accessdenieddetail"] == {"requiredScopes": ["qyapi_robot_sendmsg"]}
    assert dingtalk.complaints() == []


# Messages


async def test_a_webhook_takes_markdown_with_a_title_until_it_ends(dingtalk: SimulatedDingTalk, client: Client) -> None:
    asked = await dingtalk.person_writes("hello", direct=False)
    app, data = dingtalk._sent[asked.event]
    url, markdown = data["sessionWebhook"], {"msgtype": "markdown", "markdown": {"title": "t", "text": "a &#60; b"}}
    assert await client.webhook(url, markdown) == 0
    assert [reply.text for reply in dingtalk.visible(asked.room)] == ["a < b"]
    for wrong, code in (
        ({"msgtype": "markdown", "markdown": {"title": "", "text": "a"}}, 40035),
        ({"msgtype": "markdown", "markdown": {"title": "t", "text": " "}}, 40035),
        ({"msgtype": "picture", "picture": {}}, 400105),
        ({"msgtype": "text", "text": {"content": "a" * 20_000}}, 460101),
    ):
        assert await client.webhook(url, wrong) == code
    assert len(dingtalk.complaints()) == 4
    assert await client.webhook(url, {**markdown, "at": {"isAtAll": True}}) == 0
    assert (len(dingtalk.complaints()), len(dingtalk.pings())) == (5, 1)
    dingtalk.remove(asked.room)
    assert await client.webhook(url, markdown) == 400013
    dingtalk.world.webhook_lasts = -1
    token, _ = dingtalk.world.session(app, dingtalk.world.rooms[asked.room])
    assert await client.webhook(f"{dingtalk.url}/robot/sendBySession?session={token}", markdown) == 300001


async def test_the_twenty_first_message_in_a_minute_shuts_the_robot_out(
    dingtalk: SimulatedDingTalk, client: Client
) -> None:
    asked = await dingtalk.person_writes("hello", direct=False)
    url = dingtalk._sent[asked.event][1]["sessionWebhook"]
    text = {"msgtype": "text", "text": {"content": "a"}}
    assert [await client.webhook(url, text) for _ in range(21)] == [0] * 20 + [410100]
    assert dingtalk.complaints() == []
    assert await client.webhook(url, text) == 410100
    assert len(dingtalk.complaints()) == 1


async def test_messages_by_the_api_tell_who_got_none(dingtalk: SimulatedDingTalk, client: Client) -> None:
    ann, bob = dingtalk.world.person("ann"), dingtalk.world.person("bob")
    dingtalk.robots.throttled.add(bob.staff_id)
    status, body = await client.call(ONE_TO_ONE, client.text("hi", userIds=[ann.staff_id, bob.staff_id, "nobody"]))
    assert (status, body["invalidStaffIdList"], body["flowControlledStaffIdList"]) == (200, ["nobody"], [bob.staff_id])
    assert [seen.text for seen in dingtalk.visible(dingtalk.room("ann", "", True, "bot").id)] == ["hi"]
    assert len(dingtalk.complaints()) == 1
    room = (await dingtalk.person_writes("hello", direct=False)).room
    for arguments, code in (
        (client.text("a" * 15_000, openConversationId=room), "invalidParameter.msgParam.tooLong"),
        (client.text("", openConversationId=room), "miss.param.markdownTotext"),
        (client.text("a", openConversationId="cidNOWHERE"), "invalid.openConversationId"),
        ({**client.text("a", openConversationId=room), "robotCode": "dingOTHER"}, "invalidParameter.robotCode.auth"),
    ):
        assert await client.code(GROUP, arguments) == code
    assert len(dingtalk.complaints()) == 5
    dingtalk.remove(room)
    assert await client.code(GROUP, client.text("a", openConversationId=room)) == "group.disbanded"


# Cards


async def test_a_card_grows_until_it_is_finalized_and_its_frames_are_idempotent(
    dingtalk: SimulatedDingTalk, client: Client
) -> None:
    room = (await dingtalk.person_writes("hello", direct=False)).room
    place = f"IM_GROUP.{room}"
    status, body = await client.call(CREATE_AND_DELIVER, client.card("track-1", place))
    assert (status, body["result"]["deliverResults"][0]["success"]) == (200, True)
    assert [(seen.text, seen.growing) for seen in dingtalk.visible(room)] == [("", True)]
    assert await client.code(STREAMING, client.frame("track-1", "one", "g1")) == ""
    assert await client.code(STREAMING, client.frame("track-1", "other", "g1")) == ""
    assert [(seen.text, seen.growing) for seen in dingtalk.visible(room)] == [("one", True)]
    assert await client.code(STREAMING, client.frame("track-1", "one two", "g2", isFinalize=True)) == ""
    assert await client.code(CREATE_AND_DELIVER, client.card("track-1", place)) == ""
    (seen,) = dingtalk.visible(room)
    assert (seen.text, seen.growing, list(seen.versions)) == ("one two", False, ["one", "one two"])
    dingtalk.cards.refuses_repetition = True
    assert await client.code(CREATE_AND_DELIVER, client.card("track-1", place)) == "param.cardAlreadyExist"
    assert len(dingtalk.visible(room)) == 1
    assert dingtalk.complaints() == []


async def test_what_is_wrong_with_a_card_is_said_and_complained_of(dingtalk: SimulatedDingTalk, client: Client) -> None:
    ann = dingtalk.world.person("ann")
    place = f"IM_ROBOT.{ann.staff_id}"
    assert await client.code(CREATE_AND_DELIVER, client.card("track-1", place, cardTemplateId="x.schema")) == (
        "param.templateNotExist"
    )
    assert dingtalk.complaints() == []
    for arguments, code in (
        (client.card("track-1", place, cardData={"cardParamMap": {KEY: 1}}), "param.invalid"),
        (client.card("x" * 65, place), "outTrackId.outOfLimit"),
        (client.card("track-1", "IM_ROBOT"), "param.openSpaceIdInvalid"),
        (client.card("track-1", place, imRobotOpenDeliverModel={}), "param.openDeliverModelError"),
    ):
        assert await client.code(CREATE_AND_DELIVER, arguments) == code
    assert await client.code(CREATE_AND_DELIVER, client.card("track-1", place)) == ""
    assert await client.code(STREAMING, client.frame("track-2", "a", "g")) == "param.stream.outTrackId"
    for arguments, code in (
        (client.frame("track-1", "a", ""), "param.stream.guidEmpty"),
        (client.frame("track-1", "a", "g", isFull=False), "param.stream.isFull"),
        (client.frame("track-1", "a" * 3001, "g"), "param.stream.content"),
        (client.frame("track-1", "a", "g", key="text"), "unknownError"),
    ):
        assert await client.code(STREAMING, arguments) == code
    assert len(dingtalk.complaints()) == 8
    update = {"outTrackId": "track-1", "cardData": {"cardParamMap": {KEY: "at last", "flowStatus": "3"}}}
    assert await client.code(UPDATE, update) == ""
    assert [(seen.text, seen.growing) for seen in dingtalk.visible(dingtalk.room("ann", "", True, "bot").id)] == [
        ("at last", False)
    ]


async def test_a_card_for_a_place_that_is_gone_is_made_but_not_delivered(
    dingtalk: SimulatedDingTalk, client: Client
) -> None:
    room = (await dingtalk.person_writes("hello", direct=False)).room
    dingtalk.remove(room)
    status, body = await client.call(CREATE_AND_DELIVER, client.card("track-1", f"IM_GROUP.{room}"))
    assert (status, body["result"]["deliverResults"][0]["success"]) == (200, False)
    assert dingtalk.visible(room) == []


# Limits and faults


async def test_a_pause_that_is_not_kept_is_complained_of(dingtalk: SimulatedDingTalk, client: Client) -> None:
    room = (await dingtalk.person_writes("hello", direct=False)).room
    message = client.text("a", openConversationId=room)
    dingtalk.limit_rate(0.5)
    assert await client.code(GROUP, message) == "Forbidden.AccessDenied.QpsLimitForAppkeyAndApi"
    await asyncio.sleep(0.2)
    assert await client.code(GROUP, message) == ""
    assert len(dingtalk.complaints()) == 1
    await asyncio.sleep(0.4)
    assert await client.code(GROUP, message) == ""
    assert len(dingtalk.complaints()) == 1
    dingtalk.api.qps = 3
    codes = [await client.code(GROUP, message) for _ in range(4)]
    assert codes[-1] == "Forbidden.AccessDenied.QpsLimitForAppkeyAndApi"


async def test_faults_break_calls_before_or_after_they_took_effect(dingtalk: SimulatedDingTalk, client: Client) -> None:
    room = (await dingtalk.person_writes("hello", direct=False)).room
    for after in (False, True):
        dingtalk.break_send(after=after)
        with pytest.raises(aiohttp.ServerDisconnectedError):
            await client.call(GROUP, client.text("a", openConversationId=room))
        assert len(dingtalk.visible(room)) == after
    dingtalk.api.faults += [
        Fault((GROUP,), "html"),
        Fault((GROUP,), "punished"),
        Fault((GROUP,), "system.error", 0, 500),
    ]
    with pytest.raises(json.JSONDecodeError):
        await client.call(GROUP, client.text("a", openConversationId=room))
    assert (await client.call(GROUP, client.text("a", openConversationId=room)))[1]["status"] == 1111
    assert await client.code(GROUP, client.text("a", openConversationId=room)) == "system.error"
    assert len(dingtalk.visible(room)) == 1
