"""What the adapter makes of WeChat's messages, one file in tests/payloads/wechat for each; and its configuration."""

from __future__ import annotations

import json
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from adapters.wechat import Config, parse_message
from adapters.wechat.address import Address
from core.errors import TargetGone
from core.messages import AccountId, InboundMessage, Quoted, ReplyAddress

PAYLOADS = Path(__file__).parents[1] / "payloads" / "wechat"


def payload(name: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((PAYLOADS / f"{name}.json").read_text(encoding="utf-8"))["payload"]
    return found


def read(written: Any, **more: Any) -> InboundMessage:
    message = parse_message(written, account=AccountId("bot"), **more)
    assert message is not None
    return message


def said(name: str, text: str, **fields: Any) -> InboundMessage:
    """The payload of that name, with another text."""
    written = payload(name)
    written["message"] |= {"text": text, **fields}
    return read(written)


def test_a_direct_message_has_its_ids_its_time_and_its_way_back() -> None:
    written = payload("direct")
    message = read(written)
    assert [message.id, message.event] == [written["message"]["id"]] * 2
    assert (message.sender.id, message.sender.display_name) == ("wxid_ann00000001", "Ann")
    assert (message.channel, message.is_direct, message.text) == ("wxid_ann00000001", True, written["message"]["text"])
    assert Address.load(message.reply_to) == Address(conversation="wxid_ann00000001")


def test_times_are_in_seconds_or_in_milliseconds() -> None:
    seconds, milliseconds = read(payload("direct-seconds")).sent_at, read(payload("direct")).sent_at
    assert seconds == datetime(2025, 9, 23, 8, 0, tzinfo=UTC)
    assert milliseconds == datetime(2025, 9, 23, 8, 0, 0, 123_000, tzinfo=UTC)


def test_a_message_without_a_time_was_written_when_it_came() -> None:
    written = payload("direct")
    written["message"]["timestamp"] = 0
    now = datetime(2026, 11, 2, tzinfo=UTC)
    assert read(written, now=now).sent_at == now
    assert parse_message(written, account=AccountId("bot")) is None


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("room-mention", "what is new?"),
        ("room-mention-by-name", "what is new?"),
        ("room-mention-by-name-and-space", "what is new?"),
        ("room-mention-by-alias", "what is new?"),
        ("room-unknown", "hi"),
    ],
)
def test_a_mention_is_seen_and_taken_out(name: str, text: str) -> None:
    message = read(payload(name))
    assert (message.mentions_bot, message.text, message.is_direct) == (True, text, False)
    assert message.channel == payload(name)["message"]["room_id"]


@pytest.mark.parametrize("name", ["room-not-for-the-bot", "room-others-mentioned"])
def test_talk_among_others_is_no_mention(name: str) -> None:
    message = read(payload(name))
    assert (message.mentions_bot, message.text) == (False, payload(name)["message"]["text"])


@pytest.mark.parametrize("text", ["@Robot2 hi", "@Robots", "mail me@Robot.example", "Robot, hi"])
def test_another_name_that_begins_like_the_bots_is_no_mention(text: str) -> None:
    assert not said("room-mention-by-name", text).mentions_bot


def test_a_mention_by_a_name_that_nobody_told_is_taken_out_where_it_is_the_only_one() -> None:
    assert said("room-mention", "look @Some Name\u2005at this").text == "look at this"
    both = said("room-mention", "@Some Name\u2005and @Bob\u2005hi", mention_ids=["wxid_robot00000001", "wxid_bob"])
    assert (both.mentions_bot, both.text) == (True, "@Some Name\u2005and @Bob\u2005hi")


def test_a_command_about_somebody_has_the_id_that_their_messages_carry() -> None:
    both = ["wxid_robot00000001", "wxid_bob"]
    assert said("room-mention-by-name", "@Robot\u2005/block @Bob\u2005", mention_ids=both).text == "/block wxid_bob"
    assert said("room-mention-by-name", "/block @Bob\u2005", mention_ids=["wxid_bob"]).text == "/block wxid_bob"
    untold = said("room-mention-by-name", "@Robot\u2005/block @Bob", mention_ids=[])
    assert untold.text == "/block @Bob"


def test_a_name_of_signs_is_no_pattern() -> None:
    written = payload("room-mention-by-name")
    written["self"]["name"] = ".*(["
    written["message"]["text"] = "@.*([\u2005hi"
    assert read(written).text == "hi"


def test_who_asks_in_a_room_goes_by_the_name_there() -> None:
    message = read(payload("room-member-alias"))
    assert message.sender.display_name == "Annie"
    assert Address.load(message.reply_to) == Address(conversation="20825083@chatroom", name="Annie")


def test_a_quote_is_data_beside_the_text() -> None:
    message = read(payload("quote"))
    assert (message.quoted, message.text) == (Quoted(author="Bob", text="the answer is 42"), "why?")


def test_a_quote_in_a_room_is_split_off_before_mentions_are_looked_for() -> None:
    message = read(payload("quote-in-a-room"))
    assert message.quoted == Quoted(author="Robot", text="the answer is 42\nand that was all")
    assert (message.mentions_bot, message.text) == (True, "why?")
    mentioned_by_the_quoted = "「Bob：@Robot hi」\n- - - - - - - - - - - - - - -\nlook, Ann"
    assert not said("room-not-for-the-bot", mentioned_by_the_quoted).mentions_bot


def test_a_quote_of_a_quote_is_read_out_of_its_xml() -> None:
    message = read(payload("quote-of-a-quote"))
    assert (message.quoted, message.text) == (Quoted(author="Bob", text="this is a test"), "why?")
    nested = "「Bob：「Ann：one」\n- - - - - - - - - - - - - - -\ntwo」\n- - - - - - - - - - - - - - -\nthree"
    assert said("quote", nested).text == "three"


@pytest.mark.parametrize(
    "text", ["「Bob：no line」\nwhy?", "say 「Bob：x」\n- - - - - - -\nwhy?", "- - - - - - -\nwhy?"]
)
def test_what_only_looks_like_a_quote_stays_in_the_text(text: str) -> None:
    message = said("direct", text)
    assert (message.quoted, message.text) == (None, text)


def test_a_quote_that_begins_a_hundred_thousand_titles_is_read_at_once() -> None:
    """Whoever quotes writes it, and everybody waits while it is read."""
    began = time.thread_time()
    found = said("direct", f"「Bob：<msg>{'<title>' * 100_000}」\n- - - - - - - -\nand now?")
    assert time.thread_time() - began < 0.5
    assert (found.text, found.quoted) == ("and now?", None)


def test_a_name_longer_than_any_is_not_looked_for() -> None:
    written = payload("room-mention-by-name")
    written["self"]["name"] = "R" * 201
    written["message"] |= {"text": f"@{'R' * 201} hello", "mention_ids": []}
    assert not read(written).mentions_bot


@pytest.mark.parametrize(
    ("name", "file", "media_type"),
    [
        ("attachment", "report 2026.pdf", "application/pdf"),
        ("picture", "4611686018427.jpg", "image/jpeg"),
        ("voice", "4611686018428.sil", "audio/silk"),
        ("video", "4611686018429.mp4", "video/mp4"),
    ],
)
def test_files_are_described_without_their_xml(name: str, file: str, media_type: str) -> None:
    message = read(payload(name))
    (attachment,) = message.attachments
    assert (message.text, attachment.name, attachment.media_type, attachment.size) == ("", file, media_type, None)


def test_a_file_without_a_name_gets_one() -> None:
    written = payload("picture")
    written["message"]["filename"] = ""
    (attachment,) = read(written).attachments
    assert (attachment.name, attachment.media_type) == ("image.jpg", "image/jpeg")


@pytest.mark.parametrize(
    "name",
    [
        "own-message",
        "official-account",
        "file-helper",
        "weixin-team",
        "recalled",
        "red-envelope",
        "transfer",
        "link",
        "unknown-kind",
    ],
)
def test_what_is_not_a_persons_message_to_the_bot_is_passed_over(name: str) -> None:
    assert parse_message(payload(name), account=AccountId("bot")) is None


def test_an_official_account_is_known_by_its_id_too() -> None:
    written = payload("official-account")
    written["contact"] = None
    assert parse_message(written, account=AccountId("bot")) is None


@pytest.mark.parametrize("junk", [None, 1, "x", [], {}, {"message": None}, {"message": {"id": "1"}, "self": 3}])
def test_junk_is_no_message(junk: Any) -> None:
    assert parse_message(junk, account=AccountId("bot")) is None


def test_an_address_is_read_back_and_nothing_else_is() -> None:
    address = Address(conversation="1@chatroom", name="Annie")
    assert Address.load(address.dump()) == address
    for junk in ("", "[]", '{"name": "x"}', '{"conversation": "x", "room": "y"}', "null"):
        with pytest.raises(TargetGone):
            Address.load(ReplyAddress(junk))


# The configuration


def test_only_a_token_is_needed() -> None:
    config = Config()
    assert config.credentials_missing() == ("token",)
    assert (config.host, config.port, config.tls, config.pace) == ("127.0.0.1", 8788, False, 1.0)
    sound = Config(token="insecure_2b9f")
    assert sound.credentials_missing() == ()
    assert "2b9f" not in repr(sound)


@pytest.mark.parametrize(
    ("endpoint", "host", "port"), [("wechaty.example.com:443", "wechaty.example.com", 443), ("[::1]:8788", "::1", 8788)]
)
def test_an_endpoint_is_a_host_and_a_port(endpoint: str, host: str, port: int) -> None:
    config = Config(endpoint=endpoint)
    assert (config.host, config.port) == (host, port)


@pytest.mark.parametrize("endpoint", ["", "8788", "host", "host:0", "host:65536", "http://host:80", "::1:80", "a b:80"])
def test_anything_else_is_no_endpoint(endpoint: str) -> None:
    with pytest.raises(ValidationError, match="host:port"):
        Config(endpoint=endpoint)


@pytest.mark.parametrize("token", ["two words", "line\n", "größe"])
def test_a_token_that_no_call_could_carry_is_refused_without_repeating_it(token: str) -> None:
    with pytest.raises(ValidationError, match="no spaces") as caught:
        Config(token=token)
    assert token not in caught.value.errors()[0]["msg"]


@pytest.mark.parametrize("pace", [-0.1, 61])
def test_a_pace_has_bounds(pace: float) -> None:
    with pytest.raises(ValidationError):
        Config(pace=pace)
