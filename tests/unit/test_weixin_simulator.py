"""The simulated iLink, spoken to as the vendor's client does (https://github.com/Tencent/openclaw-weixin): what it
does, and that it complains of every mistake."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
import pytest

from tests.contract.world import until
from tests.simulators.faults import Fault
from tests.simulators.weixin_cdn import decrypt, encrypt
from tests.simulators.weixin_server import WeixinServer
from tests.simulators.weixin_state import FILE, IMAGE, TEXT, WeixinBot

INFO = {"channel_version": "1.0.0", "bot_agent": "chatgpt-ms/1.0.0 (a test)"}


class Client:
    """What a correct client does."""

    def __init__(self, server: WeixinServer, session: aiohttp.ClientSession) -> None:
        self.server = server
        self.session = session
        self.bot: WeixinBot = server.state.bot("bot")
        self.base = server.address(self.bot)
        self.token = ""

    def headers(self) -> dict[str, str]:
        return {
            "iLink-App-Id": "bot",
            "iLink-App-ClientVersion": str(1 << 16),
            "AuthorizationType": "ilink_bot_token",
            "X-WECHAT-UIN": base64.b64encode(str(secrets.randbits(32)).encode()).decode(),
            **({"Authorization": f"Bearer {self.token}"} if self.token else {}),
        }

    async def post(self, endpoint: str, *, headers: dict[str, str] | None = None, **body: Any) -> dict[str, Any]:
        body = body if "base_info" in body else {**body, "base_info": INFO}
        async with self.session.post(
            f"{self.base}/ilink/bot/{endpoint}", json=body, headers=headers or self.headers()
        ) as response:
            assert response.status == 200
            return dict(await response.json())

    async def code(self, *tokens: str) -> str:
        made = await self.post("get_bot_qrcode?bot_type=3", local_token_list=list(tokens))
        assert made["qrcode_img_content"].startswith("https://")
        return str(made["qrcode"])

    async def status(self, code: str, *, base: str = "", **more: str) -> dict[str, Any]:
        address = f"{base or self.base}/ilink/bot/get_qrcode_status"
        headers = {"iLink-App-Id": "bot", "iLink-App-ClientVersion": "65536"}
        async with self.session.get(address, params={"qrcode": code, **more}, headers=headers) as response:
            return dict(await response.json())

    async def sign_in(self) -> None:
        confirmed = await self.status(await self.code())
        assert (confirmed["status"], confirmed["baseurl"]) == ("confirmed", self.base)
        self.token = confirmed["bot_token"]

    def person_writes(self, text: str, *, user: str = "ann", age: float = 0.0) -> dict[str, Any]:
        person = self.bot.person(user)
        item = {"type": TEXT, "text_item": {"text": text}}
        message = self.server.state.message(self.bot, person, [item], age=age)
        self.server.state.wrote(self.bot, person, message)
        return message

    async def send(self, to: dict[str, Any], item: dict[str, Any], **changes: Any) -> dict[str, Any]:
        message = {
            "from_user_id": "",
            "to_user_id": to["from_user_id"],
            "client_id": secrets.token_hex(8),
            "message_type": 2,
            "message_state": 2,
            "context_token": to["context_token"],
            "item_list": [item],
        }
        return await self.post("sendmessage", msg={**message, **changes})

    async def say(self, to: dict[str, Any], text: str, **changes: Any) -> dict[str, Any]:
        return await self.send(to, {"type": TEXT, "text_item": {"text": text}}, **changes)

    async def upload(self, to: dict[str, Any], content: bytes, kind: int) -> dict[str, Any]:
        """The reference to a file that was uploaded."""
        key, filekey = secrets.token_bytes(16), secrets.token_hex(16)
        encrypted = encrypt(content, key)
        where = await self.post(
            "getuploadurl",
            filekey=filekey,
            media_type=kind,
            to_user_id=to["from_user_id"],
            rawsize=len(content),
            rawfilemd5=hashlib.md5(content).hexdigest(),
            filesize=len(encrypted),
            no_need_thumb=True,
            aeskey=key.hex(),
        )
        parameters = {"encrypted_query_param": where["upload_param"], "filekey": filekey}
        async with self.session.post(
            f"{self.server.cdn.base}/upload",
            params=parameters,
            data=encrypted,
            headers={"Content-Type": "application/octet-stream"},
        ) as response:
            assert response.status == 200
            parameter = response.headers["x-encrypted-param"]
        return {
            "encrypt_query_param": parameter,
            "aes_key": base64.b64encode(key.hex().encode()).decode(),
            "encrypt_type": 1,
        }

    def shown(self) -> list[str]:
        return [shown.text for shown in self.bot.shown]


@asynccontextmanager
async def speaking(*, signed_in: bool = True) -> AsyncIterator[Client]:
    async with WeixinServer() as server, aiohttp.ClientSession() as session:
        client = Client(server, session)
        if signed_in:
            await client.sign_in()
        yield client


@pytest.fixture
async def client() -> AsyncIterator[Client]:
    async with speaking() as client:
        yield client


async def test_messages_come_in_order_and_an_old_cursor_replays(client: Client) -> None:
    first, second = client.person_writes("one"), client.person_writes("two", user="bob")
    came = await client.post("getupdates", get_updates_buf="")
    assert [message["message_id"] for message in came["msgs"]] == [first["message_id"], second["message_id"]]
    assert first["message_id"] > 2**53
    assert [entry.acknowledged for entry in client.bot.log] == [False, False]
    again = await client.post("getupdates", get_updates_buf="")
    assert again["msgs"] == came["msgs"]
    asyncio.get_running_loop().call_later(0.05, client.person_writes, "three")
    later = await client.post("getupdates", get_updates_buf=came["get_updates_buf"])
    assert [message["item_list"][0]["text_item"]["text"] for message in later["msgs"]] == ["three"]
    assert [entry.acknowledged for entry in client.bot.log] == [True, True, False]
    assert client.server.state.complaints == []


async def test_nothing_new_is_an_empty_answer_after_a_while(client: Client) -> None:
    client.server.api.hold = 0.05
    came = await client.post("getupdates", get_updates_buf="")
    assert (came["ret"], came["msgs"], came["longpolling_timeout_ms"]) == (0, [], 50)
    client.server.api.bare = True
    assert "ret" not in await client.post("getupdates", get_updates_buf=came["get_updates_buf"])
    assert client.server.state.complaints == []


async def test_every_status_of_a_code() -> None:
    async with speaking(signed_in=False) as client:
        login = client.server.login
        login.plan("bot", "wait", "scaned", "need_verifycode", "scaned", "scaned_but_redirect", "confirmed")
        code = await client.code()
        assert login.shown() is not None
        told = [(await client.status(code))["status"] for _ in range(3)]
        assert told == ["wait", "scaned", "need_verifycode"]
        assert (await client.status(code, verify_code="0000"))["status"] == "need_verifycode"
        assert (await client.status(code, verify_code="4711"))["status"] == "scaned"
        moved = await client.status(code)
        assert moved == {"ret": 0, "status": "scaned_but_redirect", "redirect_host": login.redirect_host}
        confirmed = await client.status(code, base=f"http://{login.redirect_host}")
        assert confirmed["bot_token"] == client.bot.token
        assert confirmed["ilink_user_id"].endswith("@im.wechat")
        assert login.shown() is None
        assert client.server.state.complaints == []


async def test_codes_that_lead_nowhere() -> None:
    async with speaking(signed_in=False) as client:
        client.server.login.plan("bot", "need_verifycode", "expired", "binded_redirect")
        code = await client.code()
        for _ in range(2):
            assert (await client.status(code, verify_code="1"))["status"] == "need_verifycode"
        assert (await client.status(code, verify_code="1"))["status"] == "verify_code_blocked"
        assert (await client.status(await client.code()))["status"] == "expired"
        token = client.bot.new_token()
        client.bot.valid = False
        assert (await client.status(await client.code(token)))["status"] == "binded_redirect"
        assert client.bot.valid
        assert client.server.state.complaints == []


async def test_a_code_waits_for_somebody_and_expires() -> None:
    async with speaking(signed_in=False) as client:
        login = client.server.login
        login.scans, login.hold = False, 0.05
        code = await client.code()
        assert (await client.status(code))["status"] == "wait"
        login.scan()
        assert [(await client.status(code))["status"] for _ in range(2)] == ["scaned", "confirmed"]
        login.lasts = 0.0
        assert (await client.status(await client.code()))["status"] == "expired"
        assert client.server.state.complaints == []


async def test_a_stale_token_is_told_to_the_poll_that_is_held(client: Client) -> None:
    client.server.api.hold = 5.0
    poll = asyncio.create_task(client.post("getupdates", get_updates_buf=""))
    await until(lambda: client.server.api.polls["bot"])
    client.bot.valid = False
    client.bot.change()
    assert (await poll)["errcode"] == -14
    assert (await client.post("getconfig", ilink_user_id="x"))["ret"] == -14
    old = client.token
    await client.sign_in()
    assert client.token != old
    assert client.server.state.complaints == []


async def test_what_is_sent_is_shown(client: Client) -> None:
    asked = client.person_writes("hello")
    sent = await client.say(asked, "answer")
    assert sent["ret"] == 0
    assert client.shown() == ["answer"]
    assert client.bot.shown[0].id == str(sent["message_id"])
    client.server.api.bare = True
    assert "ret" not in await client.say(asked, "another")
    assert client.server.state.complaints == []


async def test_limits_are_told_as_ret_minus_two(client: Client) -> None:
    outbox = client.server.outbox
    asked = client.person_writes("hello")
    assert [(await client.say(asked, f"{n}"))["ret"] for n in range(3)] == [0, 0, -2]
    outbox.most_in_a_second, outbox.most_answers = None, 3
    assert [(await client.say(asked, f"{n}"))["ret"] for n in range(2, 4)] == [0, -2]
    asked = client.person_writes("go on")
    assert (await client.say(asked, "3"))["ret"] == 0
    old = client.person_writes("yesterday", user="bob", age=25 * 3600)
    assert (await client.say(old, "too late"))["ret"] == -2
    assert client.shown() == ["0", "1", "2", "3"]
    assert client.bot.refusals == ["rate limited", "over the answers to one message", "over the window"]
    assert client.server.state.complaints == []


async def test_files_go_both_ways_encrypted(client: Client) -> None:
    content = bytes(range(256)) * 50
    asked = client.person_writes("a file, please")
    media = await client.upload(asked, content, 3)
    item = {"type": FILE, "file_item": {"media": media, "file_name": "a.bin", "len": str(len(content))}}
    assert (await client.send(asked, item))["ret"] == 0
    media = await client.upload(asked, content, 1)
    image = {"type": IMAGE, "image_item": {"media": media, "mid_size": (len(content) // 16 + 1) * 16}}
    assert (await client.send(asked, image))["ret"] == 0
    assert client.shown() == ["[a.bin]", "[image]"]
    came = client.server.cdn.item("p.png", "image/png", content)["image_item"]
    async with client.session.get(came["media"]["full_url"]) as response:
        assert decrypt(await response.read(), bytes.fromhex(came["aeskey"])) == content
    assert client.server.state.complaints == []


async def test_typing_and_presence(client: Client) -> None:
    asked = client.person_writes("hello")
    await client.post("msg/notifystart")
    online = [client.bot.online]
    ticket = (await client.post("getconfig", ilink_user_id=asked["from_user_id"]))["typing_ticket"]
    await client.post("sendtyping", ilink_user_id=asked["from_user_id"], typing_ticket=ticket, status=1)
    assert client.bot.typing == [("ann", 1)]
    await client.post("msg/notifystop")
    assert [*online, client.bot.online] == [True, False]
    assert client.server.state.complaints == []


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"from_user_id": "me"}, "from_user_id"),
        ({"to_user_id": "o9cq8@im.wechat"}, "to_user_id"),
        ({"client_id": ""}, "client_id"),
        ({"message_type": 1}, "message_type"),
        ({"message_state": 1}, "message_state"),
        ({"context_token": ""}, "context_token"),
        ({"item_list": []}, "item_list"),
        ({"item_list": [{"type": 1, "text_item": {"text": " "}}]}, "empty"),
        ({"item_list": [{"type": 3, "voice_item": {}}]}, "type 3"),
        ({"item_list": [{"type": 4, "file_item": {"media": {"encrypt_query_param": "x"}}}]}, "media"),
    ],
)
async def test_a_wrong_send_is_refused_with_a_complaint(
    client: Client, changes: dict[str, Any], complaint: str
) -> None:
    asked = client.person_writes("hello")
    assert (await client.say(asked, "answer", **changes))["ret"] == -2
    (said,) = client.server.state.complaints
    assert complaint in said
    assert client.shown() == []


async def test_what_is_cut_is_complained_of_and_what_is_repeated_is_shown_twice(client: Client) -> None:
    """That the platform recognises a `client_id` is told by nobody, so nothing here relies on it."""
    asked = client.person_writes("hello")
    await client.say(asked, "x" * 2_001, client_id="same")
    (said,) = client.server.state.complaints
    assert "2001" in said
    await client.say(asked, "y", client_id="same")
    assert client.shown() == ["x" * 2_000, "y"]


@pytest.mark.parametrize("name", ["iLink-App-Id", "iLink-App-ClientVersion", "AuthorizationType", "X-WECHAT-UIN"])
async def test_missing_headers_are_complained_of(client: Client, name: str) -> None:
    headers = client.headers()
    del headers[name]
    await client.post("msg/notifystart", headers=headers)
    (said,) = client.server.state.complaints
    assert name in said


async def test_a_missing_base_info_is_complained_of(client: Client) -> None:
    await client.post("msg/notifystart", base_info={})
    await client.post("msg/notifystart", base_info={"channel_version": "1", "bot_agent": "no version"})
    assert len(client.server.state.complaints) == 2


async def test_two_polls_at_once_are_complained_of(client: Client) -> None:
    client.server.api.hold, client.server.api.grace = 0.3, 0.0
    await asyncio.gather(*(client.post("getupdates", get_updates_buf="") for _ in range(2)))
    (said,) = client.server.state.complaints
    assert "2 polls" in said


async def test_a_poll_that_was_given_up_is_no_second_one(client: Client) -> None:
    client.server.api.hold = 5.0
    poll = asyncio.create_task(client.post("getupdates", get_updates_buf=""))
    await until(lambda: client.server.api.polls["bot"])
    poll.cancel()
    client.person_writes("hello")
    assert (await client.post("getupdates", get_updates_buf=""))["msgs"]
    assert client.server.state.complaints == []


async def test_a_foreign_cursor_and_a_stale_token_are_complained_of(client: Client) -> None:
    client.person_writes("hello")
    assert (await client.post("getupdates", get_updates_buf="nonsense"))["msgs"]
    client.bot.valid = False
    for _ in range(12):
        await client.post("msg/notifystart")
    assert "get_updates_buf" in client.server.state.complaints[0]
    assert "stale" in client.server.state.complaints[-1]


async def test_a_send_whose_answer_gets_lost(client: Client) -> None:
    asked = client.person_writes("hello")
    client.server.outbox.faults += [Fault(("sendmessage",), "broken"), Fault(("sendmessage",), "lost")]
    for text in ("one", "two"):
        with pytest.raises(aiohttp.ClientError):
            await client.say(asked, text)
    assert client.shown() == ["two"]
    client.server.outbox.faults.append(Fault(("sendmessage",), "limit", 60.0))
    assert (await client.say(asked, "three"))["ret"] == -2
    assert client.server.state.complaints == []
    await client.say(asked, "three")
    (said,) = client.server.state.complaints
    assert "pause" in said


async def test_refused_connections_and_calls_that_are_none(client: Client) -> None:
    client.server.api.refuse["bot"] = 2
    for _ in range(2):
        with pytest.raises((aiohttp.ClientError, AssertionError)):
            await client.post("getupdates", get_updates_buf="")
    assert (await client.post("msg/notifystart"))["ret"] == 0
    with pytest.raises(AssertionError):
        await client.post("sendmesage")
    (said,) = client.server.state.complaints
    assert "no such thing" in said
