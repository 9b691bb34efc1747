"""What DingTalk's pushes become."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from adapters.dingtalk import parse_message
from adapters.dingtalk.address import Address
from adapters.dingtalk.parse import over_quota
from core.errors import TargetGone
from core.messages import AccountId, Belongs, InboundMessage, Quoted, ReplyAddress
from tests.simulators.dingtalk import PAYLOADS

ME = "$:LWCP_v1:$4SEJ4dzbTgHFUDZ8Qi8qr3x3vTgHFUDZ"
ANN = "$:LWCP_v1:$+8JCgkIp8fXdjLJEN8lOBg=="


def payload(name: str) -> Any:
    return json.loads((PAYLOADS / f"{name}.json").read_text(encoding="utf-8"))["payload"]


def read(name: str, **changes: Any) -> InboundMessage | None:
    return parse_message({**payload(name), **changes}, account=AccountId("work"))


def message(name: str, **changes: Any) -> InboundMessage:
    found = read(name, **changes)
    assert found is not None
    return found


def test_a_direct_message() -> None:
    found = message("text-direct")
    assert (found.text, found.is_direct, found.mentions_bot) == ("你好 & <hello> *there*", True, False)
    assert (found.sender.id, found.sender.display_name, found.account) == ("16650127698", "Ann", "work")
    assert found.sent_at == datetime(2025, 9, 23, 8, 0, 1, 894_000, tzinfo=UTC)
    assert [found.id, found.event] == [payload("text-direct")["msgId"]] * 2


def test_the_same_message_pushed_again_is_known_by_its_id() -> None:
    first, again = message("text-direct"), message("text-direct", sessionWebhook="https://oapi.dingtalk.com/new")
    assert (first.id, first.event, first.channel) == (again.id, again.event, again.channel)


def test_in_a_group_the_mention_is_gone_and_told() -> None:
    found = message("text-group")
    assert (found.text, found.is_direct, found.mentions_bot) == ("测试数据", False, True)
    assert found.thread is None


def test_a_mention_of_others_or_of_everybody_alone_is_none_of_the_bot() -> None:
    assert not message("text-group-everybody").mentions_bot
    assert message("text-group-others-mentioned").text == "ask @Bob about it"
    assert message("text-group", isInAtList=None).mentions_bot  # it is among atUsers
    assert not message("text-group", isInAtList="true", atUsers=[]).mentions_bot
    assert message("text-group", isInAtList=None, atUsers=None).mentions_bot  # both are optional
    assert not message("text-direct", isInAtList=None, atUsers=None).mentions_bot


@pytest.mark.parametrize("typed", [" /block @Bob", "  /block  "])
def test_a_command_about_somebody_has_the_id_that_their_messages_carry(typed: str) -> None:
    others = payload("text-group-others-mentioned")["atUsers"]
    assert message("text-group-others-mentioned", text={"content": typed}).text == "/block 054632473136322716"
    outside = [others[0], {"dingtalkId": "$:LWCP_v1:$hnDL6J3jSFO1+VXckD8/zQ=="}]
    changes = {"text": {"content": typed}, "atUsers": outside}
    assert message("text-group-others-mentioned", **changes).text == "/block $:LWCP_v1:$hnDL6J3jSFO1+VXckD8/zQ=="
    two = {"text": {"content": typed}, "atUsers": [*others, {"staffId": "1"}]}
    assert message("text-group-others-mentioned", **two).text == typed.strip()


@pytest.mark.parametrize("kind", ["3", "", None, 1, "direct"])
def test_an_unknown_kind_of_place_is_not_taken_for_a_direct_chat(kind: Any) -> None:
    assert read("text-direct", conversationType=kind) is None


def test_rich_text_brings_its_pictures() -> None:
    found = message("rich-text-group")
    assert found.text == "what is this?"
    assert [file.media_type for file in found.attachments] == ["image/jpeg"]
    assert len(message("rich-text-direct").attachments) == 2


def test_mentions_of_people_in_rich_text_keep_their_names() -> None:
    parts = [{"type": "at", "atName": "Bob", "atUserId": "$:LWCP_v1:$bob"}, {"text": "is right"}]
    assert message("rich-text-group", content={"richText": parts}).text == "@Bob is right"


@pytest.mark.parametrize(
    ("name", "file", "kind", "text"),
    [
        ("picture", "picture.jpg", "image/jpeg", ""),
        ("video", "video.mp4", "video/mp4", ""),
        ("file", "年度计划 v1.43.pdf", "application/pdf", ""),
        ("audio", "voice.amr", "audio/amr", "钉钉，让进步发生"),
        ("audio-not-understood", "voice.amr", "audio/amr", ""),
    ],
)
def test_files_are_described(name: str, file: str, kind: str, text: str) -> None:
    found = message(name)
    (attachment,) = found.attachments
    assert (attachment.name, attachment.media_type, attachment.size, found.text) == (file, kind, None, text)
    assert json.loads(attachment.source) == {
        "code": payload(name)["content"]["downloadCode"],
        "robot": payload(name)["robotCode"],
    }


def test_a_quote_is_data_with_its_author() -> None:
    assert message("quote-of-text").quoted == Quoted(author="somebody", text="the deadline is EOB")
    assert message("quote-of-rich-text").quoted == Quoted(author="somebody", text="look at")
    for name in ("quote-of-own-card", "quote-of-file", "quote-of-picture", "quote-untold"):
        assert message(name).quoted is None, name


@pytest.mark.parametrize(("author", "name"), [(ANN, "Ann"), (ME, "you"), ("$:LWCP_v1:$other", "somebody")])
def test_who_is_quoted(author: str, name: str) -> None:
    text = payload("quote-of-text")["text"]
    text["repliedMsg"] |= {"senderId": author, "content": json.dumps({"text": "so it is"})}
    assert message("quote-of-text", text=text).quoted == Quoted(author=name, text="so it is")


def forwarded(**content: Any) -> InboundMessage:
    return message("chat-record", content={**payload("chat-record")["content"], **content})


def test_a_forwarded_conversation_is_data_with_its_authors() -> None:
    found = forwarded()
    assert found.text == "[Forwarded messages: Ann and Bob]"
    assert found.quoted == Quoted(author="several people, forwarded", text="Ann: when?\nBob: tomorrow")
    records = [{"senderNick": "Ann", "msgType": "picture", "downloadCode": "x"}, {"content": {"text": "well"}}, 7]
    assert forwarded(title=None, chatRecord=records).text == "[Forwarded messages]"
    assert forwarded(chatRecord=records).quoted == Quoted(
        author="several people, forwarded", text="Ann: [picture]\nsomebody: well"
    )


def test_names_that_a_forwarded_conversation_has_in_its_summary_alone_are_found_there() -> None:
    records = json.dumps([{"senderId": "$:x", "content": "when?"}, {"senderId": "$:y", "content": "tomorrow"}])
    both = forwarded(chatRecord=records, summary=json.dumps(["Ann:when?", "Bob：tomorrow"])).quoted
    assert both == forwarded().quoted


@pytest.mark.parametrize(("record", "summary"), [("[]", "[]"), (None, None), ("{", " "), ([], 7)])
def test_a_forwarded_conversation_of_which_nothing_is_told_is_a_message_all_the_same(record: Any, summary: Any) -> None:
    found = forwarded(chatRecord=record, summary=summary)
    assert (found.text, found.quoted) == ("[Forwarded messages: Ann and Bob]", None)
    summed_up = forwarded(chatRecord=record, summary="Ann: when?").quoted
    assert summed_up is not None
    assert summed_up.text == "Ann: when?"


def test_whoever_comes_from_outside_has_an_id_that_nobody_in_the_company_can_have() -> None:
    found = message("external-sender")
    assert found.sender.id.startswith("$:")
    assert Address.load(found.reply_to).staff == ""
    assert message("unpublished-bot").sender.id == ANN
    assert message("external-sender", senderId="16650127698").sender.id == "$:16650127698"


@pytest.mark.parametrize(
    ("name", "changes", "expected"),
    [
        ("text-group", {}, Belongs.MEMBER),
        ("text-direct", {}, Belongs.MEMBER),
        ("unpublished-bot", {}, Belongs.MEMBER),  # nobody's id in the company is told then
        ("unpublished-bot", {"senderCorpId": None}, Belongs.MEMBER),
        ("external-sender", {}, Belongs.EXTERNAL),
        ("external-sender", {"senderCorpId": None}, Belongs.EXTERNAL),  # in a group, of no company that is told
        ("text-group", {"senderCorpId": "ding0e8d089d86d0da35"}, Belongs.EXTERNAL),
        ("external-sender", {"chatbotCorpId": None}, Belongs.MEMBER),  # ours is not known
    ],
)
def test_people_of_another_company_are_external(name: str, changes: dict[str, Any], expected: Belongs) -> None:
    assert message(name, **changes).sender.belongs is expected


def test_what_nobody_wrote_or_nobody_can_read_is_no_message() -> None:
    for name in ("interactive-card", "unknown-kind", "unknown-conversation", "over-quota"):
        assert read(name) is None, name
    assert read("text-direct", senderId=ME) is None
    assert read("text-direct", msgId="") is None
    assert over_quota(payload("over-quota"))
    assert over_quota({"errorCode": 20001})
    assert not over_quota(payload("text-direct"))


def test_times_may_be_texts_as_the_document_says_or_missing_as_in_its_example() -> None:
    assert message("text-direct", createAt="1758614401894").sent_at == message("text-direct").sent_at
    for unread in (None, "yesterday", -1):
        found = message("text-direct", createAt=unread)
        assert timedelta() <= datetime.now(UTC) - found.sent_at < timedelta(minutes=1)
        assert Address.load(found.reply_to).asked == int(found.sent_at.timestamp() * 1000)


def test_the_way_back_survives_being_stored() -> None:
    address = Address.load(message("text-group").reply_to)
    assert Address.load(address.dump()) == address
    assert not address.direct
    assert address.until == payload("text-group")["sessionWebhookExpiredTime"]
    for broken in ("", "[]", "{}", '{"conversation": "a", "direct": true, "more": 1}'):
        with pytest.raises(TargetGone):
            Address.load(ReplyAddress(broken))
