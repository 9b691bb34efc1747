"""What becomes of Discord's payloads; those of tests/payloads/discord are as the platform sends them."""

from __future__ import annotations

import json
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from adapters.discord.address import Address
from adapters.discord.parse import parse_interaction, parse_message, snowflake_at, snowflake_time
from core.errors import DeliveryError
from core.messages import Belongs, InboundMessage, ReplyAddress
from tests.simulators.discord import surroundings

PAYLOADS = Path(__file__).parents[1] / "payloads" / "discord"


def payload(name: str) -> dict[str, Any]:
    data: dict[str, Any] = json.loads((PAYLOADS / f"{name}.json").read_text(encoding="utf-8"))["d"]
    return data


def read(name: str, **around: Any) -> InboundMessage:
    message = parse_message(payload(name), surroundings(**around))
    assert message is not None
    return message


def command(name: str) -> InboundMessage | None:
    return parse_interaction(payload(name), surroundings())


def test_a_mention_is_addressed_and_does_not_stay_in_the_text() -> None:
    message = read("mention")
    assert message.text == "what does **this** do?"
    assert message.mentions_bot
    assert not message.is_direct
    assert (message.id, message.event) == ("1434201830000000001", "1434201830000000001")
    assert (message.channel, message.thread) == ("600000000000000001", None)
    assert message.sender.display_name == "Ann of Accounts"
    assert message.sent_at == datetime(2026, 11, 2, 9, 0, 0, 123000, tzinfo=UTC)


def test_ids_in_a_text_become_names() -> None:
    message = read("mention_legacy_and_others")
    assert message.text == "ask @Bob and @helpers in #general :party: /chat"
    assert message.mentions_bot


@pytest.mark.parametrize("call", ["", "<@{me}> "])
def test_a_command_about_somebody_has_their_id(call: str) -> None:
    around, data = surroundings(), payload("mention_legacy_and_others")
    person = next(one["id"] for one in data["mentions"] if one["id"] != around.me)
    data["content"] = f"{call.format(me=around.me)}/block <@{person}>"
    message = parse_message(data, around)
    assert message is not None
    assert message.text == f"/block {person}"
    data["content"] = f"/budget <@!{person}> tokens=5"
    message = parse_message(data, around)
    assert message is not None
    assert message.text == f"/budget {person} tokens=5"


def test_a_long_text_takes_as_many_times_as_long_as_it_is_longer() -> None:
    def work(times: int) -> float:
        written, took = {**payload("mention"), "content": "</" * times}, []
        for _ in range(5):
            began = time.process_time()
            assert parse_message(written, surroundings()) is not None
            took.append(time.process_time() - began)
        return min(took)

    assert work(16_000) < 8 * work(4_000) + 0.002  # four times; a quadratic one takes sixteen times as long


def test_the_role_that_discord_made_for_the_bot_is_a_mention_too() -> None:
    message = read("mention_of_the_bots_role")
    assert message.mentions_bot
    assert message.text == "hello"


@pytest.mark.parametrize("name", ["everyone", "not_for_the_bot"])
def test_calling_everyone_is_not_calling_the_bot(name: str) -> None:
    assert not read(name).mentions_bot


def test_a_reply_with_a_ping_is_addressed_and_quotes_what_it_answers() -> None:
    message = read("reply_with_ping")
    assert message.mentions_bot
    assert message.text == "why?"
    assert message.quoted is not None
    assert (message.quoted.author, message.quoted.text) == ("helper", "The answer is 42.")


def test_what_is_forwarded_is_quoted() -> None:
    message = read("forward")
    assert message.quoted is not None
    assert message.quoted.text == "From elsewhere: the meeting is at ten."
    assert message.text == ""


def test_a_thread_belongs_to_its_channel_and_is_answered_in_itself() -> None:
    message = read("in_a_thread")
    assert (message.channel, message.thread) == ("600000000000000001", "600000000000000002")
    assert Address.load(message.reply_to).channel == "600000000000000002"


def test_a_thread_of_the_bots_own_needs_no_mention() -> None:
    data = payload("in_a_thread") | {"content": "and now?", "mentions": []}
    followed = parse_message(data, surroundings(followed={"600000000000000002": True}.get))
    other = parse_message(data, surroundings())
    assert followed is not None
    assert followed.mentions_bot
    assert other is not None
    assert not other.mentions_bot


def test_where_threads_are_opened_the_message_names_the_thread_to_come() -> None:
    message = read("mention", opens_threads=True)
    assert str(message.thread) == message.id
    assert Address.load(message.reply_to) == Address(
        channel="1434201830000000001",
        guild="300000000000000001",
        message="1434201830000000001",
        opens_in="600000000000000001",
        title="what does **this** do?",
    )
    assert read("in_a_thread", opens_threads=True).thread == "600000000000000002"
    assert read("direct", opens_threads=True).thread is None


def test_a_direct_message_is_direct_and_its_files_are_described() -> None:
    message = read("direct_with_a_file")
    assert message.is_direct
    assert not message.mentions_bot
    (file,) = message.attachments
    assert (file.name, file.size) == ("notes.txt", 5)
    assert file.media_type.startswith("text/plain")
    assert json.loads(file.source)["message"] == message.id


@pytest.mark.parametrize("kind", [0, 3, 11, 99, "1", None])
def test_a_place_of_an_unknown_kind_is_no_direct_chat(kind: Any) -> None:
    data = payload("direct") | {"channel_type": kind}
    message = parse_message(data, surroundings())
    assert (message is None) is (kind is not None)


def test_bots_are_marked_and_what_no_person_wrote_is_no_message() -> None:
    assert read("of_another_bot").sender.is_bot
    for name in ("of_the_bot_itself", "of_a_webhook", "joined"):
        assert parse_message(payload(name), surroundings()) is None


def test_slash_commands_are_read_as_what_a_person_would_type() -> None:
    chat, new, model = command("command_chat"), command("command_new_in_a_thread"), command("command_direct")
    assert chat is not None
    assert new is not None
    assert model is not None
    assert (chat.text, new.text, model.text) == ("what is a monad?", "/new", "/model gpt-5-mini")
    assert (chat.is_direct, model.is_direct) == (False, True)
    assert (new.channel, new.thread) == ("600000000000000001", "600000000000000002")
    assert chat.sender.locale == "zh-CN"
    assert chat.mentions_bot
    assert Address.load(chat.reply_to).token == "aW50ZXJhY3Rpb246MTQzNDIwMTgzMA"


@pytest.mark.parametrize("name", ["command_in_a_chat_of_others", "button"])
def test_other_interactions_are_no_message(name: str) -> None:
    assert command(name) is None


def test_ids_tell_their_time() -> None:
    # https://docs.discord.com/developers/reference#snowflakes has this example
    assert snowflake_time("175928847299117063") == datetime(2016, 4, 30, 11, 18, 25, 796000, tzinfo=UTC)
    now = datetime(2026, 11, 2, 9, 0, tzinfo=UTC)
    assert snowflake_time(str(snowflake_at(now))) == now
    assert snowflake_at(now) < snowflake_at(now + timedelta(milliseconds=1))


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"place": 1}', "null", '{"channel": "1", "surprise": 2}'])
def test_an_address_that_is_not_ours_is_refused(text: str) -> None:
    with pytest.raises(DeliveryError):
        Address.load(ReplyAddress(text))


@pytest.mark.parametrize(("flags", "expected"), [(0, False), (16, True), (1 | 16, True), (None, False), ("16", False)])
def test_guests_of_a_server_are_told_by_their_flag(flags: Any, expected: bool) -> None:
    wanted = Belongs.GUEST if expected else Belongs.MEMBER
    message = parse_message({**payload("mention"), "member": {"flags": flags}}, surroundings())
    assert message is not None
    assert message.sender.belongs is wanted
    given = payload("command_chat")
    given["member"]["flags"] = flags
    interaction = parse_interaction(given, surroundings())
    assert interaction is not None
    assert interaction.sender.belongs is wanted


def test_private_answers_are_marked_where_others_read_along() -> None:
    for name, private in (("whoami", True), ("export", True), ("new", False)):
        given = payload("command_chat")
        given["data"] = {**given["data"], "name": name, "options": []}
        found = parse_interaction(given, surroundings())
        assert found is not None
        assert Address.load(found.reply_to).private is private
        direct = payload("command_direct")
        direct["data"] = {**direct["data"], "name": name, "options": []}
        found = parse_interaction(direct, surroundings())
        assert found is not None
        assert not Address.load(found.reply_to).private
