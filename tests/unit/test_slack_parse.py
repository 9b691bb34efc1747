"""What Slack's events become."""

from __future__ import annotations

import json
import time
from datetime import UTC, datetime
from typing import Any

import pytest

from adapters.slack import parse_message
from adapters.slack.address import Address
from adapters.slack.belongs import Known, known_user
from adapters.slack.identity import Identity
from adapters.slack.text import readable, without_mention
from core.messages import AccountId, Belongs, InboundMessage
from tests.simulators.slack import PAYLOADS, SimulatedSlack


def payload(name: str) -> Any:
    return json.loads((PAYLOADS / f"{name}.json").read_text(encoding="utf-8"))["payload"]


def read(name: str, **changes: Any) -> InboundMessage | None:
    found = payload(name)
    found["event"].update(changes)
    return SimulatedSlack().parse(found)


def message(name: str, **changes: Any) -> InboundMessage:
    found = read(name, **changes)
    assert found is not None
    return found


def test_slackbot_is_not_answered() -> None:
    assert read("direct-message", user="USLACKBOT") is None


def test_a_direct_message_is_read_out_of_its_escapes() -> None:
    found = message("direct-message")
    assert found.text == "What does a & b < c mean? See [the page](https://example.com/a?b=1&c=2)"
    assert (found.sender.id, found.sender.display_name) == ("U061F7AUR", "Ann")
    assert (found.is_direct, found.mentions_bot, found.thread) == (True, False, None)
    assert found.sent_at == datetime(2025, 9, 23, 8, 0, 0, 100, tzinfo=UTC)


def test_the_two_events_of_one_mention_are_one_message() -> None:
    first, second = message("channel-mention"), message("app-mention")
    assert first.id == second.id == "C024BE91L/1758614401.000200"
    assert first.event != second.event
    assert first.text == second.text == "is @Ann in #general?"
    assert first.reply_to == second.reply_to
    assert first.mentions_bot
    assert not first.is_direct


def test_a_mention_in_a_channel_opens_a_thread_and_a_reply_stays_in_its_own() -> None:
    assert message("channel-mention").thread == "1758614401.000200"
    reply = message("thread-reply")
    assert reply.thread == "1758614401.000200"
    assert reply.text == "and what would @chatgpt say?"
    assert json.loads(reply.reply_to)["thread"] == "1758614401.000200"


def test_the_assistant_pane_is_a_direct_chat_in_a_thread() -> None:
    found = message("assistant-message")
    assert (found.is_direct, found.thread) == (True, "1758614499.000900")


@pytest.mark.parametrize(
    "name", ["message-changed", "message-deleted", "own-message", "other-bot", "assistant-thread-started"]
)
def test_what_nobody_wrote_to_the_bot_is_no_message(name: str) -> None:
    assert read(name) is None


@pytest.mark.parametrize("kind", ["", "shared", None, 7])
def test_an_unknown_kind_of_place_is_not_taken_for_a_direct_chat(kind: Any) -> None:
    assert read("direct-message", channel_type=kind) is None


def test_an_event_for_another_installation_is_not_ours() -> None:
    other = [{"enterprise_id": None, "team_id": "T0OTHER", "user_id": "U0OTHER", "is_bot": True}]
    found = payload("direct-message") | {"authorizations": other}
    assert SimulatedSlack().parse(found) is None


def test_people_of_other_workspaces_carry_the_id_of_theirs() -> None:
    found = message("connect")
    assert found.sender.id == "T0STRANGE/U0STRANGE"
    assert json.loads(found.reply_to)["team"] == "T0STRANGE"
    assert message("connect", user_team="T061EG9R6", team="T061EG9R6").sender.id == "U0STRANGE"


OURS = Known(name="Ann", team="T061EG9R6")
GUEST = Known(name="Gus", team="T061EG9R6", guest=True)
STRANGER = Known(name="Sam", team="T0STRANGE", stranger=True)
SISTER = Known(name="Sis", team="T0SISTER", enterprise="E0ORG")


@pytest.mark.parametrize(
    ("name", "known", "changes", "expected"),
    [
        ("channel-mention", None, {}, Belongs.MEMBER),
        ("channel-mention", OURS, {}, Belongs.MEMBER),
        ("channel-mention", GUEST, {}, Belongs.GUEST),
        ("direct-message", GUEST, {}, Belongs.GUEST),
        ("direct-message", STRANGER, {}, Belongs.EXTERNAL),
        ("direct-message", Known(), {}, Belongs.MEMBER),  # the token may not ask
        ("connect", None, {}, Belongs.EXTERNAL),
        ("connect", STRANGER, {}, Belongs.EXTERNAL),
        ("connect", None, {"user_team": "T061EG9R6"}, Belongs.MEMBER),  # one of ours in a shared channel
        ("connect", GUEST, {"user_team": "T061EG9R6"}, Belongs.GUEST),
        ("connect", None, {"user_team": "", "source_team": "", "team": ""}, Belongs.EXTERNAL),  # whose, nobody says
        ("connect", OURS, {"user_team": "", "source_team": "", "team": ""}, Belongs.MEMBER),
        ("connect", SISTER, {"user_team": "T0SISTER"}, Belongs.MEMBER),
        ("channel-mention", None, {"user_team": "T0SISTER"}, Belongs.MEMBER),  # no other organisation is in there
    ],
)
def test_guests_and_people_of_other_organisations_are_told_apart(
    name: str, known: Known | None, changes: dict[str, str], expected: Belongs
) -> None:
    found = payload(name)
    found["event"].update(changes)
    assert parsed(found, known).sender.belongs is expected


def test_in_a_history_the_authors_workspace_tells() -> None:
    event = payload("connect")["event"]
    assert parsed({"event": event}, None).sender.belongs is Belongs.EXTERNAL
    assert parsed({"event": {**event, "user_team": "T061EG9R6"}}, None).sender.belongs is Belongs.MEMBER
    assert parsed({"event": {**event, "user_team": "T061EG9R6"}}, GUEST).sender.belongs is Belongs.GUEST


@pytest.mark.parametrize(
    ("known", "changes", "expected", "id"),
    [
        (None, {}, Belongs.MEMBER, "U061F7AUR"),
        (GUEST, {}, Belongs.GUEST, "U061F7AUR"),
        (None, {"team_id": "T0STRANGE"}, Belongs.EXTERNAL, "T0STRANGE/U061F7AUR"),
        (None, {"team_id": "T0SISTER", "enterprise_id": "E0ORG"}, Belongs.MEMBER, "U061F7AUR"),
    ],
)
def test_who_gives_a_slash_command_is_told_apart_too(
    known: Known | None, changes: dict[str, str], expected: Belongs, id: str
) -> None:
    sender = parsed({**payload("slash-command"), **changes}, known).sender
    assert (sender.belongs, sender.id) == (expected, id)


def parsed(found: Any, known: Known | None) -> InboundMessage:
    identity = Identity(user="U0LAN0Z89", bot="B0LAN0Z89", team="T061EG9R6", enterprise="E0ORG", name="chatgpt")
    message = parse_message(
        found,
        account=AccountId("bot"),
        identity=identity,
        name=lambda _: None,
        now=datetime(2026, 11, 23, tzinfo=UTC),
        person=lambda _: known,
    )
    assert message is not None
    return message


@pytest.mark.parametrize(
    ("user", "expected"),
    [
        ({"is_restricted": True}, GUEST.guest),
        ({"is_ultra_restricted": True}, True),
        ({"is_restricted": "yes"}, False),
        ({}, False),
    ],
)
def test_what_users_info_says_outright_counts(user: dict[str, Any], expected: bool) -> None:
    assert known_user(user).guest is expected
    told = known_user({**user, "name": "ann", "profile": {"display_name": "Ann"}, "team_id": "T1", "is_stranger": True})
    assert (told.name, told.team, told.stranger) == ("Ann", "T1", True)


def test_what_is_private_after_a_slash_command() -> None:
    for text, private in (("whoami", True), ("usage", True), ("new", False), ("what is 6 & 7?", False)):
        found = SimulatedSlack().parse(payload("slash-command") | {"text": text})
        assert found is not None
        assert Address.load(found.reply_to).private is private


def test_an_organisations_ids_are_kept_whole() -> None:
    assert message("enterprise").sender.id == "W012A3CDE"


def test_files_are_described_with_what_it_takes_to_fetch_them() -> None:
    whole, stub = message("file-share").attachments
    assert (whole.name, whole.media_type, whole.size) == ("report.pdf", "application/pdf", 48213)
    assert json.loads(whole.source)["url"].startswith("https://files.slack.com/")
    assert json.loads(stub.source) == {"id": "F0LAN2Q71", "url": ""}


def test_a_shared_message_is_quoted_with_its_author() -> None:
    found = message("shared-message")
    assert found.quoted is not None
    assert (found.quoted.author, found.quoted.text) == ("Bob", "1 < 2")


def test_a_slash_command_is_a_question_and_known_words_are_commands() -> None:
    typed = payload("slash-command")
    found = SimulatedSlack().parse(typed)
    assert found is not None
    assert (found.text, found.mentions_bot, found.is_direct) == ("what is 6 & 7?", True, False)
    for text, expected in (("new", "/new"), ("model gpt-5", "/model gpt-5"), ("", "/help"), ("new ideas", "new ideas")):
        found = SimulatedSlack().parse(typed | {"text": text})
        assert found is not None
        assert found.text == expected


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        ("/block <@U061F7AUR>", "/block U061F7AUR"),
        ("/budget <@U061F7AUR|ann> tokens=5", "/budget U061F7AUR tokens=5"),
        ("/允许 <@U061F7AUR>", "/允许 U061F7AUR"),
        ("/retry <@U061F7AUR>", "/retry @Ann"),
        ("what does <@U061F7AUR> say?", "what does @Ann say?"),
    ],
)
def test_a_command_about_somebody_has_their_id(written: str, expected: str) -> None:
    assert message("direct-message", text=written).text == expected
    assert message("app-mention", text=f"<@U0LAN0Z89> {written}").text == expected
    typed = payload("slash-command") | {"text": "block <@U061F7AUR|ann>"}
    found = SimulatedSlack().parse(typed)
    assert found is not None
    assert found.text == "/block U061F7AUR"


@pytest.mark.parametrize(
    ("known", "id"), [(STRANGER, f"{STRANGER.team}/U9"), (SISTER, "U9"), (OURS, "U9"), (None, "U9")]
)
def test_a_command_about_somebody_of_another_organisation_has_the_id_that_their_messages_carry(
    known: Known | None, id: str
) -> None:
    found = payload("direct-message")
    found["event"]["text"] = "/block <@U9>"
    assert parsed(found, known).text == f"/block {id}"


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        ("a &lt;b&gt; &amp;amp; c", "a <b> &amp; c"),
        ("<https://a.example/x?y=1&amp;z=2>", "https://a.example/x?y=1&z=2"),
        ("<http://a.example|a.example>", "http://a.example"),
        ("<mailto:a@b.example|a@b.example>", "a@b.example"),
        ("<@U1> and <@U2|bob>", "@Ann and @bob"),
        ("<@U9>", "@U9"),
        ("<#C1> <#C2|news>", "#general #news"),
        ("<!here> <!channel|channel> <!subteam^S1|@team>", "@here channel @team"),
        ("<!date^1392734382^{date}^https://example.com/|Feb 18, 2014>", "Feb 18, 2014"),
        ("*bold* _slanted_ `code`", "*bold* _slanted_ `code`"),
        ("1 < 2 and <> stay", "1 < 2 and  stay"),
    ],
)
def test_texts_are_read_as_people_read_them(written: str, expected: str) -> None:
    assert readable(written, {"U1": "Ann", "C1": "general"}.get) == expected


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        ("<@U0> hello", "hello"),
        ("<@U0|bot>: hello", "hello"),
        ("hello <@U0>", "hello"),
        ("<@U0> <@U0> hi <@U0>", "hi"),
        ("ask <@U0> again", "ask <@U0> again"),
        ("<@U01> hello", "<@U01> hello"),
    ],
)
def test_the_bots_own_mention_is_removed_where_it_only_calls(written: str, expected: str) -> None:
    assert without_mention(written, "U0") == expected


@pytest.mark.parametrize("text", ["a{}b", "{}", "<@U0>{}x"], ids=["between words", "alone", "after a call"])
@pytest.mark.parametrize("unit", [" ", "<@U0>", "<@U0|", "<", " <@U0> "])
def test_a_long_text_takes_as_many_times_as_long_as_it_is_longer(text: str, unit: str) -> None:
    def work(times: int) -> float:
        written, took = text.format(unit * times), []
        for _ in range(5):
            began = time.process_time()
            without_mention(written, "U0")
            took.append(time.process_time() - began)
        return min(took)

    assert work(40_000) < 8 * work(10_000) + 0.002  # four times; a quadratic one takes sixteen times as long
