"""What the adapter makes of iLink's messages, one file in tests/payloads/weixin for each."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from adapters.weixin import Config, parse_message
from adapters.weixin.address import Address
from core.errors import TargetGone
from core.messages import AccountId, InboundMessage, Quoted, ReplyAddress

PAYLOADS = Path(__file__).parents[1] / "payloads" / "weixin"
ANN = "o9cq80yyAnnAnnAnnAnnAnnAnnAn@im.wechat"
KEY = "000102030405060708090a0b0c0d0e0f"


def payload(name: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((PAYLOADS / f"{name}.json").read_text(encoding="utf-8"))["payload"]
    return found


def read(written: Any, *, now: datetime | None = None) -> InboundMessage:
    message = parse_message(written, account=AccountId("bot"), now=now)
    assert message is not None
    return message


def test_a_text_has_its_ids_its_time_and_its_way_back() -> None:
    written = payload("text")
    message = read(written)
    assert [message.id, message.event] == [str(written["message_id"])] * 2
    assert (message.sender.id, message.channel, message.is_direct) == (ANN, ANN, True)
    assert message.text == written["item_list"][0]["text_item"]["text"]
    assert message.sent_at == datetime.fromtimestamp(written["create_time_ms"] / 1000, UTC)
    address = Address.load(message.reply_to)
    assert (address.user, address.context) == (ANN, written["context_token"])
    assert address.moment == message.sent_at


def test_ids_of_64_bits_stay_whole() -> None:
    written = payload("text")
    for id in (2**53 + 1, 2**64 - 1):
        assert read({**written, "message_id": id}).id == str(id)
        assert read({**written, "message_id": str(id)}).id == str(id)


def test_a_message_without_an_id_is_known_by_the_clients() -> None:
    written = payload("text")
    del written["message_id"]
    assert read(written).id == f"{ANN}/{written['client_id']}"
    del written["client_id"]
    assert parse_message(written, account=AccountId("bot")) is None


def test_a_message_without_a_time_was_written_when_it_came() -> None:
    written = payload("text")
    del written["create_time_ms"]
    now = datetime(2026, 11, 2, tzinfo=UTC)
    assert read(written, now=now).sent_at == now


@pytest.mark.parametrize("name", ["own-message", "group", "recalled"])
def test_what_is_not_a_persons_message_to_the_bot_is_passed_over(name: str) -> None:
    assert parse_message(payload(name), account=AccountId("bot")) is None


def test_what_was_said_is_text_where_the_platform_wrote_it_down_and_a_file_where_not() -> None:
    understood = read(payload("voice"))
    assert (understood.text, understood.attachments) == ("What will the weather be like tomorrow?", ())
    (file,) = read(payload("voice-not-understood")).attachments
    assert file.media_type == "audio/silk"


def test_a_quote_is_data_beside_the_text() -> None:
    message = read(payload("quote"))
    assert message.text == "and why?"
    assert message.quoted == Quoted(author="", text="A monad is a monoid in the category of endofunctors.")
    assert read(payload("quote-title")).quoted == Quoted(author="", text="ChatGPT: A monad is a monoid")


def test_a_quoted_picture_comes_along() -> None:
    message = read(payload("quote-of-picture"))
    assert message.text == "What is on it?"
    assert [file.media_type for file in message.attachments] == ["image/jpeg"]


@pytest.mark.parametrize("name", ["picture", "picture-key-in-media"])
def test_the_key_of_a_picture_is_found_wherever_it_is(name: str) -> None:
    (file,) = read(payload(name)).attachments
    assert json.loads(file.source)["key"] == KEY


def test_the_hex_key_beside_a_picture_goes_before_that_in_its_reference() -> None:
    written = payload("picture")
    written["item_list"][0]["image_item"]["aeskey"] = "f" * 32
    (file,) = read(written).attachments
    assert json.loads(file.source)["key"] == "f" * 32


def test_a_file_has_its_name_its_type_and_its_size() -> None:
    written = payload("file")
    item = written["item_list"][0]["file_item"]
    (file,) = read(written).attachments
    assert (file.name, file.size) == (item["file_name"], int(item["len"]))
    assert json.loads(file.source)["key"] == KEY


def test_something_else_is_no_address() -> None:
    for text in ("", "{}", "[]", '{"user": "ann"}', '{"user": "a", "context": "", "at": 1, "on": 2}'):
        with pytest.raises(TargetGone):
            Address.load(ReplyAddress(text))


def test_a_listed_account_is_on_and_an_empty_address_leaves_it_off() -> None:
    assert Config().credentials_missing() == ()
    assert Config(api_url="").credentials_missing() == ("api_url",)
    assert Config(api_url="http://127.0.0.1:9/x/").api_url == "http://127.0.0.1:9/x"
    for wrong in ({"api_url": "ilinkai.weixin.qq.com"}, {"pace": -1}, {"token": "x"}):
        with pytest.raises(ValidationError):
            Config(**wrong)
