"""What Feishu's events become."""

from __future__ import annotations

import json
import time
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest

from adapters.feishu.address import Address
from adapters.feishu.identity import Identity
from adapters.feishu.parse import event_of, original_of, parse_message, quoted_by
from adapters.feishu.text import Mention, content_of, mentions_in, readable
from core.messages import AccountId, Belongs, InboundMessage
from tests.simulators.feishu import PAYLOADS, SimulatedFeishu

BOT = Identity(open_id="ou_bot", name="ChatGPT", app_id="cli_bot")


def payload(name: str) -> Any:
    return json.loads((PAYLOADS / f"{name}.json").read_text(encoding="utf-8"))["payload"]


def read(name: str, **changes: Any) -> InboundMessage | None:
    found = payload(name)
    found["event"]["message"].update(changes)
    return SimulatedFeishu().parse(found)


def message(name: str, **changes: Any) -> InboundMessage:
    found = read(name, **changes)
    assert found is not None
    return found


def test_a_direct_message_is_read() -> None:
    found = message("direct-message", create_time="1609073151345")
    assert (found.text, found.is_direct, found.mentions_bot, found.thread) == ("hello there", True, False, None)
    assert found.sent_at == datetime(2020, 12, 27, 12, 45, 51, 345000, tzinfo=UTC)
    address = Address.load(found.reply_to)
    assert (address.message_id, address.chat_id, address.direct) == (found.id, found.channel, True)
    assert (address.user, address.sent_at_ms) == (found.sender.id, 1609073151345)


def test_a_message_is_known_by_its_own_id_whatever_the_delivery_is_called() -> None:
    """Feishu says so itself, since a backfilled event has another id."""
    first, second = payload("direct-message"), payload("direct-message")
    second["header"]["event_id"] = "another"
    one, other = SimulatedFeishu().parse(first), SimulatedFeishu().parse(second)
    assert one is not None
    assert one == other
    assert str(one.event) == one.id


def test_a_mention_calls_and_the_mentions_of_others_are_names() -> None:
    found = message("group-mention")
    assert (found.text, found.mentions_bot, found.is_direct, found.thread) == (
        "what does @Bob mean?",
        True,
        False,
        None,
    )
    assert message("group-mention-old").mentions_bot


@pytest.mark.parametrize("name", ["group-everyone", "group-mention-of-another", "group-without-mention"])
def test_who_mentions_everybody_or_others_does_not_mean_the_bot(name: str) -> None:
    assert not message(name).mentions_bot


def test_a_group_of_topics_is_a_group() -> None:
    found = message("topic-root", chat_type="topic_group")
    assert (found.is_direct, found.thread) == (False, message("topic-root").thread)
    assert not Address.load(found.reply_to).direct


def test_a_topic_is_a_thread_and_a_reply_outside_of_topics_is_none() -> None:
    assert message("topic-reply").thread == "omt_d4be107c616a"
    assert message("topic-root").thread is not None
    assert message("group-reply").thread is None
    assert json.loads(message("topic-reply").reply_to)["thread_id"] == "omt_d4be107c616a"


@pytest.mark.parametrize(
    "name", ["other-bot", "own-message", "system", "message-read", "card-action", "version-1", "url-verification"]
)
def test_what_nobody_wrote_to_the_bot_is_no_message(name: str) -> None:
    assert SimulatedFeishu().parse(payload(name)) is None


@pytest.mark.parametrize("kind", ["", "topic", None, 7])
def test_an_unknown_kind_of_place_is_not_taken_for_a_direct_chat(kind: Any) -> None:
    assert read("direct-message", chat_type=kind) is None


@pytest.mark.parametrize("when", ["", "soon", "-1", "1" * 30, None, 1.5])
def test_a_message_without_a_time_has_that_of_its_event_or_is_none(when: Any) -> None:
    found = payload("direct-message")
    found["event"]["message"]["create_time"] = when
    found["header"]["create_time"] = "1609073151345"
    told = SimulatedFeishu().parse(found)
    assert told is not None
    assert told.sent_at == datetime(2020, 12, 27, 12, 45, 51, 345000, tzinfo=UTC)
    found["header"]["create_time"] = when
    assert SimulatedFeishu().parse(found) is None


def test_a_post_becomes_commonmark() -> None:
    paragraphs = [
        [{"tag": "text", "text": "see "}, {"tag": "a", "text": "this", "href": "https://example.com"}],
        [{"tag": "text", "text": "bold ", "style": ["bold", "italic"]}, {"tag": "text", "text": "plain"}],
        [],
        [{"tag": "at", "user_id": "@_user_2"}, {"tag": "at", "user_id": "ou_9", "user_name": "Cy"}],
        [{"tag": "code_block", "language": "PYTHON", "text": 'print("```")\n'}],
        [{"tag": "hr"}],
        [{"tag": "img", "image_key": "img_1"}, {"tag": "media", "file_key": "file_1"}, {"tag": "img"}, 7],
        "no paragraph",
    ]
    found = message("group-post", content=json.dumps({"title": "Title", "content": paragraphs}))
    assert found.text.startswith("**Title**\n\nsee [this](https://example.com)\n_**bold**_ plain\n")
    assert '````python\nprint("```")\n````\n\n---' in found.text
    assert "@Cy" in found.text
    assert [json.loads(each.source)["key"] for each in found.attachments] == ["img_1", "file_1"]


def test_a_post_in_a_wrapper_of_languages_is_read_too() -> None:
    post = {"zh_cn": {"title": "", "content": [[{"tag": "md", "text": "**hi**"}]]}}
    assert message("group-post", content=json.dumps(post), mentions=[]).text == "**hi**"


@pytest.mark.parametrize(
    ("name", "kind", "described"),
    [
        ("image", "image", ("image", "image/*")),
        ("file", "file", ("季度报告.pdf", "application/pdf")),
        ("audio", "file", ("audio.opus", "audio/")),
        ("media", "file", ("walk.mp4", "video/mp4")),
        ("sticker", "sticker", ("sticker", "image/*")),
    ],
)
def test_files_are_described_with_what_it_takes_to_fetch_them(name: str, kind: str, described: tuple[str, str]) -> None:
    found = message(name)
    (attachment,) = found.attachments
    assert attachment.name == described[0]
    assert attachment.media_type.startswith(described[1])
    assert attachment.size is None  # Feishu does not tell
    source = json.loads(attachment.source)
    assert (source["message"], source["type"]) == (found.id, kind)


@pytest.mark.parametrize("key", ["", "../x", "a/b", "https://example.com", "a b", "é", 7])
def test_a_key_that_is_none_describes_no_file(key: Any) -> None:
    assert message("image", content=json.dumps({"image_key": key})).attachments == ()


def test_other_kinds_are_told_in_a_line() -> None:
    assert message("location").text == "[Location: 上海市, 31.230, 121.473]"
    assert message("merge-forward").text == "[Forwarded messages]"
    vote = json.dumps({"topic": "lunch", "options": ["rice", "noodles"]})
    assert message("direct-message", message_type="vote", content=vote).text == "[Poll: lunch, rice, noodles]"
    todo = json.dumps({"summary": {"title": "", "content": [[{"tag": "text", "text": "buy milk"}]]}})
    assert message("direct-message", message_type="todo", content=todo).text == "[Task: buy milk]"
    assert read("direct-message", message_type="a_new_kind") is None


# Mentions

MENTIONS = {
    "@_user_1": Mention("ou_bot", "ChatGPT"),
    "@_user_2": Mention("ou_bob", "Bob"),
    "@_user_10": Mention("ou_joe", "Joe"),
    "@_all": Mention("", "all"),
}


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        ("@_user_1 hello", "hello"),
        ("@_user_1，你好", "你好"),
        ("  @_user_1 @_user_1: hi @_user_1 ", "hi"),
        ("hello@_user_1", "hello"),
        ("ask @_user_1 again", "ask @ChatGPT again"),
        ("@_user_2 and @_user_10", "@Bob and @Joe"),
        ("@_user_2 @_user_1 hi", "@Bob @ChatGPT hi"),
        ("@_user_12024 is near", "2024 is near"),
        ("@_user_3 is nobody", "@_user_3 is nobody"),
        ("@_all listen", "@all listen"),
        ("@_user_1", ""),
        ("mail a@b.example", "mail a@b.example"),
        ("  kept  ", "  kept"),
        ("@_user_1 /block @_user_2", "/block ou_bob"),
        ("/budget @_user_10 tokens=5", "/budget ou_joe tokens=5"),
        ("/block @_all", "/block @all"),
        ("/new @_user_2", "/new @Bob"),
    ],
)
def test_mentions_are_read_as_people_read_them(written: str, expected: str) -> None:
    assert readable(written, MENTIONS, frozenset(["@_user_1"])) == expected


def test_a_text_of_blanks_or_mentions_alone_takes_no_time() -> None:
    own = frozenset(["@_user_1"])
    began = time.perf_counter()
    assert readable(f"a{' ' * 150_000}b", MENTIONS, own) == f"a{' ' * 150_000}b"
    assert readable("@_user_1" * 18_000, MENTIONS, own) == ""
    assert len(readable(f"{'@' * 150_000}b", MENTIONS, own)) == 150_001
    assert time.perf_counter() - began < 2


# What histories have


def test_a_placeholder_longer_than_any_is_none() -> None:
    mentions = [{"key": f"@_{'x' * 39}", "name": "Ann"}, {"key": f"@_{'x' * 38}", "name": "Bob"}]
    assert list(mentions_in({"mentions": mentions})) == [f"@_{'x' * 38}"]


def item(text: str = "hello", **changes: Any) -> dict[str, Any]:
    return {
        "message_id": "om_1",
        "msg_type": "text",
        "create_time": "1609073151345",
        "deleted": False,
        "chat_id": "oc_1",
        "sender": {"id": "ou_ann", "id_type": "open_id", "sender_type": "user"},
        "body": {"content": json.dumps({"text": text})},
        **changes,
    }


def test_a_message_of_a_history_is_the_message_of_its_event() -> None:
    live = payload("group-mention")
    told = live["event"]["message"]
    mentions = [{**one, "id": one["id"]["open_id"], "id_type": "open_id"} for one in told["mentions"]]
    kept = item(
        message_id=told["message_id"],
        create_time=told["create_time"],
        chat_id=told["chat_id"],
        sender={"id": live["event"]["sender"]["sender_id"]["open_id"], "sender_type": "user"},
        body={"content": told["content"]},
        mentions=mentions,
    )
    assert SimulatedFeishu().parse(event_of(kept, "group")) == SimulatedFeishu().parse(live)


def test_apps_in_a_history_are_no_people() -> None:
    app = {"id": "cli_x", "id_type": "app_id", "sender_type": "app"}
    assert SimulatedFeishu().parse(event_of(item(sender=app), "p2p")) is None


def test_a_quoted_message_is_data_with_its_author() -> None:
    original = original_of([item("see @_user_1", mentions=[{"key": "@_user_1", "id": "ou_x", "name": "Cy"}])], BOT)
    assert original is not None
    assert (original.quoted.author, original.quoted.text, original.asks) == ("ou_ann", "see @Cy", False)
    assert len(original_of([item("x" * 9_000)], BOT).quoted.text) == 4_000  # type: ignore[union-attr]
    assert original_of([item(deleted=True)], BOT) is None
    assert original_of([], BOT) is None


def test_the_bots_own_card_is_quoted_by_its_name_as_it_was_sent() -> None:
    card = {
        "schema": "2.0",
        "body": {"elements": [{"tag": "markdown", "content": "**42** &#60;at id=all&#62;"}, {"tag": "hr"}]},
    }
    sent = item(
        msg_type="interactive",
        sender={"id": "cli_bot", "id_type": "app_id", "sender_type": "app"},
        body={"content": json.dumps(card)},
    )
    original = original_of([sent], BOT)
    assert original is not None
    assert (original.quoted.author, original.quoted.text) == ("ChatGPT", "**42** <at id=all>")


def test_a_card_as_feishu_retells_it_is_read_by_its_lines() -> None:
    card = {
        "title": "Build",
        "elements": [
            [{"tag": "text", "text": "main is "}, {"tag": "a", "text": "red", "href": "https://ci"}],
            [{"tag": "note", "elements": [{"tag": "text", "text": "a note"}]}],
        ],
    }
    found = content_of("interactive", json.dumps(card), "om_1")
    assert found is not None
    assert found.text == "Build\nmain is red\na note"
    deep: Any = "end"
    for _ in range(200):
        deep = {"elements": [deep]}
    assert content_of("interactive", json.dumps(deep), "om_1") is not None


def test_forwarded_messages_are_quoted_with_their_authors() -> None:
    bundle = item(msg_type="merge_forward", body={"content": "Merged and Forwarded Message"})
    children = [item("lunch?"), item("yes", sender={"id": "ou_bob", "sender_type": "user"})]
    original = original_of([bundle, *children], BOT)
    assert original is not None
    assert original.quoted.text == "ou_ann: lunch?\nou_bob: yes"
    forwarded = payload("merge-forward")
    assert quoted_by(forwarded) == forwarded["event"]["message"]["message_id"]
    assert quoted_by(payload("direct-message")) == ""


def sent_by(tenant: str, *, header: str | None = "736588c9260f175e", known: str = "", mention: str = "") -> Belongs:
    """How the sender of a mention belongs, by the organisations that are named."""
    found = payload("group-mention")
    found["event"]["sender"]["tenant_key"] = tenant
    found["header"]["tenant_key"] = header
    for named in found["event"]["message"]["mentions"]:
        named["tenant_key"] = mention
    identity = replace(Identity(open_id="ou_e6e14f667cfe239d7b129b521dce0569"), tenant=known)
    read_out = parse_message(found, account=AccountId("bot"), identity=identity)
    assert read_out is not None
    assert read_out.mentions_bot
    return read_out.sender.belongs


def test_people_of_another_organisation_are_external_where_both_are_known() -> None:
    ours, theirs = "736588c9260f175e", "2ed263bf32cf1651"
    assert sent_by(ours) is Belongs.MEMBER
    assert sent_by(theirs) is Belongs.EXTERNAL
    assert sent_by("") is Belongs.MEMBER
    assert sent_by(theirs, header=None) is Belongs.MEMBER  # ours is not known
    assert sent_by(theirs, header=None, known=ours) is Belongs.EXTERNAL
    assert sent_by(theirs, header=None, mention=ours) is Belongs.EXTERNAL  # as in a history
    assert sent_by(theirs, header=theirs, mention=ours) is Belongs.EXTERNAL


def test_the_organisation_of_a_message_of_a_history_is_kept() -> None:
    written = {**item(), "sender": {"id": "ou_1", "sender_type": "user", "tenant_key": "2ed263bf32cf1651"}}
    found = parse_message(
        event_of(written, "p2p"), account=AccountId("bot"), identity=replace(BOT, tenant="736588c9260f175e")
    )
    assert found is not None
    assert found.sender.belongs is Belongs.EXTERNAL
