"""Chat commands, through the whole core path."""

from __future__ import annotations

import asyncio

import pytest

from core.messages import Sender, UserId
from tests.core.gateway import Gateway, until


async def test_help_lists_every_command_in_the_person_s_language(gateway: Gateway) -> None:
    english = "\n".join(await gateway.ask("/help"))
    assert "`/new` start a new conversation" in english
    chinese = "\n".join(await gateway.ask("/帮助", place="desk"))
    assert "`/新会话` 开始新会话" in chinese
    assert english.count("- `/") == chinese.count("- `/") == 13


async def test_a_short_command_is_answered_in_the_person_s_own_language(gateway: Gateway) -> None:
    sender = Sender(id=UserId("li"), locale="zh-CN")
    assert await gateway.ask("/new", user="li", sender=sender) == ["已开始新会话。"]


async def test_status_tells_the_model_the_turns_and_what_happens(gateway: Gateway) -> None:
    await gateway.ask("1")
    status = (await gateway.ask("/status"))[-1]
    assert status.split("  \n") == ["Model: `test-model`", "Turns in this conversation: 1", "Now: idle"]
    gateway.model.will(hold := asyncio.Event(), "done")
    await gateway.hear("2")
    await until(lambda: gateway.model.running)
    await gateway.hear("3")
    await gateway.hear("/status")
    await until(lambda: len(gateway.pager.texts()) == 3)
    assert gateway.pager.texts()[-1].endswith("Now: answering, 1 waiting")
    hold.set()
    await gateway.idle()


async def test_a_model_is_chosen_per_conversation(gateway: Gateway) -> None:
    assert "Available: `test-model`, `other-model`" in (await gateway.ask("/model"))[-1]
    assert (await gateway.ask("/model other-model"))[-1] == "This conversation now uses `other-model`."
    assert "可选：`test-model`、`other-model`" in (await gateway.ask("/模型"))[-1]
    await gateway.ask("1")
    await gateway.ask("1", user="bob", place="desk")
    assert gateway.model.models == ["other-model", None]
    assert "no model `gpt<b>`" in (await gateway.ask("/model gpt<b>`"))[-1]
    await gateway.ask("/model test-model")
    await gateway.ask("2")
    assert gateway.model.models[-1] is None


async def test_export_has_the_whole_conversation_and_no_commands(gateway: Gateway) -> None:
    assert await gateway.ask("/export") == ["There is nothing to export yet."]
    await gateway.ask("1")
    await gateway.ask("/new")
    await gateway.ask("2")
    export = (await gateway.ask("/export"))[-1]
    assert [word in export for word in ("answer to 1", "answer to 2", "/new", "nothing to export")] == [
        True,
        True,
        False,
        False,
    ]


@pytest.mark.parametrize("text", ["/new please", "/unknown", "resetting", "//new", "new"])
async def test_what_is_no_command_is_a_question(gateway: Gateway, text: str) -> None:
    await gateway.ask(text)
    assert gateway.model.questions == [text]


async def test_commands_are_no_history(gateway: Gateway) -> None:
    await gateway.ask("/whoami")
    await gateway.ask("/help")
    await gateway.ask("1")
    assert len(gateway.model.prompts[0]) == 2


async def test_a_full_width_slash_and_space_are_those_of_a_command(gateway: Gateway) -> None:
    assert await gateway.ask("／新会话") == ["已开始新会话。"]
    assert (await gateway.ask("／model　other-model"))[-1] == "This conversation now uses `other-model`."
    await gateway.ask("1")
    await gateway.ask("／retry")
    assert gateway.model.questions == ["1", "1"]


async def test_what_was_deleted_is_counted_without_the_commands(gateway: Gateway) -> None:
    await gateway.ask("1")
    await gateway.ask("/status")
    assert (await gateway.ask("/forget yes"))[-1] == "Done. 1 turn of this conversation was deleted for good."
