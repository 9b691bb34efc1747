"""The web chat in a real browser, with the real gateway behind it."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from playwright.async_api import Browser, BrowserContext, expect

from tests.scenario.browser import ChatPage, launched
from tests.scenario.conftest import MakeGateway
from tests.scenario.gateway_process import GatewayProcess
from tests.simulators.openai_server import OpenAIServer

pytestmark = [pytest.mark.browser, pytest.mark.process]

MARKDOWN = """\
## Two ways

1. **First**, with `code`
   - nested
2. ~~Second~~ and [a link](https://example.org/a)

> A quote

| Name | Value |
| --- | --- |
| a | 1 |

```python
def f(x):  # doubles
    return x * 2
```

中文也可以。
"""

HOSTILE = """\
<script>document.title = "owned"</script> <img src=x onerror="document.title='owned'">

[click](javascript:document.title='owned') ![remote](https://example.org/pixel.png)

<style>body { display: none }</style>
"""


@pytest.fixture
async def browser() -> AsyncIterator[Browser]:
    """Chromium."""
    async with launched() as browser:
        yield browser


@pytest.fixture
async def context(browser: Browser) -> BrowserContext:
    """One person's browser: cookies and storage of its own."""
    return await browser.new_context(viewport={"width": 1280, "height": 800}, locale="en-US")


@pytest.fixture
async def chat(context: BrowserContext, gateway: GatewayProcess) -> ChatPage:
    """The page, connected to a gateway that answers `answer <number of questions> to: <question>`."""
    return await ChatPage.open(context, gateway.url)


def words(count: int) -> str:
    """A long answer whose words are numbered."""
    return "=" + " ".join(f"w{number}" for number in range(count))


def keep_port(gateway: GatewayProcess) -> None:
    """The next start takes the same address, as a restart does."""
    gateway.configure({"server": {"port": urlsplit(gateway.url).port}})


async def test_an_answer_grows_and_can_be_copied_as_it_was_written(
    chat: ChatPage, context: BrowserContext, model: OpenAIServer
) -> None:
    model.configure(reply="=" + MARKDOWN, token_delay=0.3)
    await expect(chat.find("#empty")).to_be_visible()
    await chat.ask("Show me everything")

    await expect(chat.find("#stop")).to_be_visible()
    await expect(chat.answers.first).to_contain_text("First")
    await expect(chat.turns.first).to_have_attribute("data-state", "running")
    model.configure(token_delay=0)
    await expect(chat.turns.first).to_have_attribute("data-state", "complete")

    await expect(chat.find("#send")).to_be_visible()
    await expect(chat.find("#empty")).to_be_hidden()
    await expect(chat.find(".md h2")).to_have_text("Two ways")
    await expect(chat.find(".md td").last).to_have_text("1")
    await expect(chat.find(".code .bar span").first).to_have_text("python")
    await expect(chat.find(".code .k")).to_have_text(["def", "return"])
    await expect(chat.find("#announce")).to_contain_text("中文也可以。")

    await context.grant_permissions(["clipboard-read", "clipboard-write"])
    await chat.find(".copy-code").click()
    await expect(chat.find(".copy-code")).to_have_text("Copied")
    assert await chat.page.evaluate("navigator.clipboard.readText()") == "def f(x):  # doubles\n    return x * 2\n"
    await chat.find(".copy-answer").click()
    await expect(chat.find(".copy-answer use")).to_have_attribute("href", "#i-check")
    assert await chat.page.evaluate("navigator.clipboard.readText()") == MARKDOWN
    assert chat.complaints == []


async def test_conversations_survive_a_reload_and_the_death_of_the_gateway(
    chat: ChatPage, gateway: GatewayProcess
) -> None:
    await chat.ask("My name is Ada.")
    await chat.answered(0, "answer 1 to: My name is Ada.")
    await chat.find("#new").click()
    await expect(chat.turns).to_have_count(0)
    await chat.ask("Something else")
    await chat.answered(0, "answer 1 to: Something else")
    await expect(chat.listed).to_have_text(["Something else", "My name is Ada."])

    await gateway.kill()
    keep_port(gateway)
    await gateway.start()
    await chat.page.reload()
    await chat.answered(0, "answer 1 to: Something else")
    await chat.find("#list a").last.click()
    await chat.answered(0, "answer 1 to: My name is Ada.")
    await chat.ask("Who am I?")
    await chat.answered(1, "answer 2 to: Who am I?")
    await expect(chat.page).to_have_title("My name is Ada. · chatgpt-ms")
    await chat.page.go_back()
    await chat.answered(0, "answer 1 to: Something else")
    await expect(chat.turns).to_have_count(1)


async def test_a_reload_and_a_second_tab_find_the_running_answer(
    chat: ChatPage, context: BrowserContext, model: OpenAIServer
) -> None:
    model.configure(reply=words(300), token_delay=0.05)
    await chat.ask("Count")
    await expect(chat.answers).to_contain_text("w9 ")
    await chat.page.reload()
    await expect(chat.answers).to_contain_text("w12 ")
    second = await ChatPage.open(context, chat.page.url)
    await expect(second.answers).to_contain_text("w0 w1 w2")
    await expect(second.turns).to_have_attribute("data-state", "running")

    model.configure(token_delay=0)
    for tab in (chat, second):
        await tab.answered(0, words(300)[1:])
        await expect(tab.turns).to_have_count(1)
    model.configure(reply="count")
    await second.ask("From the second tab")
    await chat.answered(1, "answer 2 to: From the second tab")
    assert len(model.requests) == 2
    assert chat.complaints == []


async def test_what_is_written_while_the_gateway_is_away_is_sent_once_when_it_is_back(
    chat: ChatPage, gateway: GatewayProcess, model: OpenAIServer
) -> None:
    await chat.ask("First")
    await chat.answered(0, "answer 1 to: First")
    keep_port(gateway)
    await gateway.kill()
    await expect(chat.find("#status")).to_have_text("Reconnecting…")
    await chat.ask("Second")
    await expect(chat.turns.nth(1)).to_have_attribute("data-state", "unsent")
    await chat.prompt.fill("a draft")

    await gateway.start()
    await chat.answered(1, "answer 2 to: Second")
    await expect(chat.find("#status")).to_be_hidden()
    await expect(chat.prompt).to_have_value("a draft")
    await expect(chat.turns).to_have_count(2)
    assert [request.last for request in model.requests] == ["First", "Second"]


async def test_an_answer_that_a_crash_broke_off_is_given_after_the_restart(
    chat: ChatPage, gateway: GatewayProcess, model: OpenAIServer
) -> None:
    model.configure(script=[{"kind": "stall", "after": 3}])
    await chat.ask("one two three four five")
    await expect(chat.answers).to_have_text(re.compile("answer 1 to"))
    keep_port(gateway)
    await gateway.kill()
    await gateway.start()
    await chat.answered(0, "answer 1 to: one two three four five")
    await expect(chat.turns).to_have_count(1)


async def test_stop_keeps_what_was_said_and_escape_is_its_key(chat: ChatPage, model: OpenAIServer) -> None:
    model.configure(script=[{"kind": "stall", "after": 3}, {"kind": "stall", "after": 3}])
    await chat.ask("one two three four")
    await expect(chat.answers).to_contain_text("answer 1 to")
    await chat.find("#stop").click()
    await expect(chat.turns.first).not_to_have_attribute("data-state", "running")
    await expect(chat.find(".sign").first).to_have_text("Stopped")
    await expect(chat.answers.first).to_contain_text("answer 1 to")
    await expect(chat.find("#send")).to_be_visible()

    await chat.ask("five six seven eight")
    await expect(chat.answers.nth(1)).to_contain_text("answer 2 to")
    await chat.prompt.press("Escape")
    await expect(chat.find(".sign").nth(1)).to_have_text("Stopped")
    await model.until(lambda server: not server.running)
    assert all(request.hung_up for request in model.requests)


async def test_stop_before_the_first_word_ends_the_wait(chat: ChatPage, model: OpenAIServer) -> None:
    model.pause()
    await chat.ask("Are you there?")
    await model.until(lambda server: server.running)
    await chat.find("#stop").click()
    await expect(chat.find("#send")).to_be_visible()
    await expect(chat.turns).to_have_attribute("data-state", "stopped")
    model.resume()
    await chat.find(".actions .retry").click()
    await chat.answered(0, "answer 1 to: Are you there?")


async def test_a_retry_right_after_the_stop_is_shown_in_its_place(chat: ChatPage, model: OpenAIServer) -> None:
    model.configure(script=[{"kind": "stall", "after": 0}])
    await chat.ask("Are you there?")
    await model.until(lambda server: server.running)
    # In the task that shows the stop, so that the page asks again before it has read back what became of the turn.
    await chat.page.evaluate("""
        new MutationObserver((_, observer) => {
          const retry = document.querySelector("[data-state=stopped] .actions .retry");
          if (retry) { observer.disconnect(); retry.click(); }
        }).observe(document.getElementById("turns"), { attributes: true, subtree: true });
    """)
    await chat.find("#stop").click()
    await chat.answered(0, "answer 1 to: Are you there?")
    await expect(chat.turns).to_have_count(1)


async def test_a_failure_is_explained_with_an_id_and_can_be_tried_again(
    chat: ChatPage, gateway: GatewayProcess, model: OpenAIServer
) -> None:
    model.configure(script=[{"kind": "status", "status": 500}])
    await chat.ask("Please")
    await expect(chat.find(".fault")).to_contain_text(re.compile(r"\b[0-9a-f]{8}\b"))
    shown = await chat.find(".fault").inner_text()
    assert gateway.sections["chat"]["api_key"] not in shown
    await chat.page.reload()
    await expect(chat.find(".fault")).to_contain_text(re.compile(r"\b[0-9a-f]{8}\b"))

    await chat.find(".fault .retry").click()
    await chat.answered(0, "answer 1 to: Please")
    await expect(chat.turns).to_have_count(1)
    await chat.page.reload()
    await chat.answered(0, "answer 1 to: Please")
    await expect(chat.turns).to_have_count(1)
    await expect(chat.find(".bubble")).to_have_text(["Please"])


async def test_an_answer_can_be_had_again(chat: ChatPage, model: OpenAIServer) -> None:
    await chat.ask("Roll a die")
    await chat.answered(0, "answer 1 to: Roll a die")
    model.configure(reply="=Another answer")
    await chat.find(".actions .retry").click()
    await chat.answered(0, "Another answer")
    await chat.page.reload()
    await chat.answered(0, "Another answer")
    await expect(chat.turns).to_have_count(1)


async def test_a_question_over_the_limit_stays_in_the_field(context: BrowserContext, make_gateway: MakeGateway) -> None:
    gateway = await make_gateway(config={"limits": {"messages_per_minute": 1}})
    await gateway.start()
    chat = await ChatPage.open(context, gateway.url)
    await chat.ask("One")
    await chat.answered(0, "answer 1 to: One")
    await chat.ask("Two, which took me long to write")
    await expect(chat.find(".fault:visible")).to_contain_text("try again in")
    await expect(chat.prompt).to_have_value("Two, which took me long to write")
    await chat.page.reload()
    await expect(chat.prompt).to_have_value("Two, which took me long to write")


async def test_a_deleted_conversation_is_gone_from_every_tab_and_from_the_store(
    chat: ChatPage, context: BrowserContext, gateway: GatewayProcess
) -> None:
    await chat.ask("The secret word is xylophone")
    await chat.answered(0, "answer 1 to: The secret word is xylophone")
    second = await ChatPage.open(context, chat.page.url)
    await second.answered(0, "answer 1 to: The secret word is xylophone")

    await chat.find("#list .row").hover()
    await chat.find("#list .remove").click()
    await chat.find("dialog button[value=no]").click()
    await expect(chat.turns).to_have_count(1)
    await chat.find("#list a").focus()
    await chat.page.keyboard.press("Delete")
    await chat.find("dialog .danger").click()

    for tab in (chat, second):
        await expect(tab.listed).to_have_count(0)
        await expect(tab.find("#empty")).to_be_visible()
    assert await gateway.stop() == 0
    assert b"xylophone" not in Path(gateway.database).read_bytes()


async def test_a_conversation_can_be_deleted_while_it_is_answered(
    chat: ChatPage, gateway: GatewayProcess, model: OpenAIServer
) -> None:
    model.configure(script=[{"kind": "stall", "after": 4}])
    await chat.ask("xylophone xylophone")
    await expect(chat.answers).to_contain_text("xylophone")
    await chat.find("#list a").focus()
    await chat.page.keyboard.press("Delete")
    await chat.find("dialog .danger").click()
    await expect(chat.find("#empty")).to_be_visible()
    await expect(chat.listed).to_have_count(0)
    await chat.page.reload()
    await expect(chat.find(".none")).to_be_visible()
    assert await gateway.stop() == 0
    assert b"xylophone" not in Path(gateway.database).read_bytes()


async def test_another_browser_sees_nothing_even_with_the_address(
    chat: ChatPage, browser: Browser, model: OpenAIServer
) -> None:
    await chat.ask("Only for me")
    await chat.answered(0, "answer 1 to: Only for me")
    stranger = await ChatPage.open(await browser.new_context(locale="en-US"), chat.page.url)
    await expect(stranger.find("#empty")).to_be_visible()
    await expect(stranger.listed).to_have_count(0)
    await stranger.ask("What was said before?")
    await stranger.answered(0, "answer 1 to: What was said before?")
    assert len(model.requests[-1].messages) == 2  # the system prompt and this question
    await chat.page.reload()
    await chat.answered(0, "answer 1 to: Only for me")
    await expect(chat.turns).to_have_count(1)


async def test_nothing_in_an_answer_or_a_question_runs(chat: ChatPage, model: OpenAIServer) -> None:
    fetched: list[str] = []
    chat.page.on("request", lambda request: fetched.append(request.url))
    model.configure(reply="=" + HOSTILE)
    await chat.ask("<img src=x onerror=\"document.title='owned'\"> **not bold**")
    await expect(chat.turns).to_have_attribute("data-state", "complete")
    await expect(chat.find(".bubble")).to_have_text("<img src=x onerror=\"document.title='owned'\"> **not bold**")
    await expect(chat.answers).to_contain_text("<script>")
    assert await chat.find("#turns :is(script, img, style, iframe)").count() == 0
    assert await chat.find("#turns a[href^='javascript']").count() == 0
    assert "owned" not in await chat.page.title() or "onerror" in await chat.page.title()
    assert [url for url in fetched if "example.org" in url or url.endswith("/x")] == []
    assert chat.complaints == []


async def test_a_key_lets_in_and_its_revocation_throws_out(context: BrowserContext, make_gateway: MakeGateway) -> None:
    gateway = await make_gateway()
    await gateway.start()
    created = (await gateway.command("keys", "create", "ada", "--json")).json
    chat = await ChatPage.open(context, gateway.url)
    await expect(chat.find("#login")).to_be_visible()
    await chat.find("#key").fill("cms-wrong")
    await chat.find("#key").press("Enter")
    await expect(chat.find("#refused")).to_have_text("This key is not valid.")
    await chat.find("#key").fill(created["secret"])
    await chat.find("#key").press("Enter")
    await chat.ask("Let me in")
    await chat.answered(0, "answer 1 to: Let me in")

    keep_port(gateway)
    await gateway.kill()
    await gateway.start()
    await chat.ask("Still in?")
    await chat.answered(1, "answer 2 to: Still in?")
    cookies = await context.cookies()
    assert {cookie["name"] for cookie in cookies} == {"chatgpt_ms_browser", "chatgpt_ms_login"}
    assert all(cookie["httpOnly"] and cookie["sameSite"] == "Strict" for cookie in cookies)
    assert created["secret"] not in str(cookies)

    await gateway.command("keys", "create", "bob")  # without any key nobody would have to sign in
    assert (await gateway.command("keys", "revoke", created["id"])).code == 0
    await expect(chat.find("#login")).to_be_visible()


async def test_keys_of_the_keyboard_do_what_they_should(chat: ChatPage) -> None:
    await chat.prompt.fill("line one")
    await chat.prompt.press("Shift+Enter")
    await chat.page.keyboard.type("line two")
    await expect(chat.prompt).to_have_value("line one\nline two")
    await chat.prompt.dispatch_event("keydown", {"key": "Enter", "isComposing": True, "bubbles": True})
    await chat.prompt.dispatch_event("keydown", {"key": "Enter", "keyCode": 229, "bubbles": True})
    await expect(chat.prompt).to_have_value("line one\nline two")
    await expect(chat.turns).to_have_count(0)
    await chat.prompt.press("Enter")
    await chat.answered(0, "answer 1 to: line one line two")
    await chat.page.keyboard.press("Control+Shift+O")
    await expect(chat.turns).to_have_count(0)
    await expect(chat.prompt).to_be_focused()
    await chat.ask("second")
    await chat.answered(0, "answer 1 to: second")

    await chat.page.keyboard.press("Control+Shift+O")
    await chat.ask("third")
    await chat.answered(0, "answer 1 to: third")
    await expect(chat.listed).to_have_text(["third", "second", re.compile("line one")])
    await chat.find("#list a").first.focus()
    await chat.page.keyboard.press("ArrowDown")
    await expect(chat.find("#list a").nth(1)).to_be_focused()
    await chat.page.keyboard.press("Enter")
    await chat.answered(0, "answer 1 to: second")
    await chat.page.keyboard.press("Home")


async def test_drafts_belong_to_their_conversation(chat: ChatPage) -> None:
    await chat.ask("one")
    await chat.answered(0, "answer 1 to: one")
    await chat.prompt.fill("draft of one")
    await chat.find("#new").click()
    await expect(chat.prompt).to_have_value("")
    await chat.prompt.fill("draft of a new one")
    await chat.find("#list a").click()
    await expect(chat.prompt).to_have_value("draft of one")
    await chat.page.reload()
    await expect(chat.prompt).to_have_value("draft of one")
    await chat.find("#new").click()
    await expect(chat.prompt).to_have_value("draft of a new one")


async def test_the_scroll_follows_only_who_is_at_the_end(chat: ChatPage, model: OpenAIServer) -> None:
    lines = "\n\n".join(f"line {number}" for number in range(400))
    model.configure(reply="=" + lines, token_delay=0.02)
    await chat.ask("Count")
    await expect(chat.answers).to_contain_text("line 40")
    await expect(chat.find("p", has_text=re.compile("^line 39$"))).to_be_in_viewport()
    await expect(chat.find("#latest")).to_be_hidden()

    await chat.find("#scroll").hover()
    await chat.page.mouse.wheel(0, -400)
    await expect(chat.find("#latest")).to_be_visible()
    top = await chat.page.evaluate("document.getElementById('scroll').scrollTop")
    await expect(chat.answers).to_contain_text("line 80")
    assert await chat.page.evaluate("document.getElementById('scroll').scrollTop") == top
    model.configure(token_delay=0)
    await expect(chat.turns).to_have_attribute("data-state", "complete")
    await chat.find("#latest").click()
    await expect(chat.find("p", has_text=re.compile("^line 399$"))).to_be_in_viewport()
    await expect(chat.find("#latest")).to_be_hidden()


async def test_language_and_theme_are_chosen_and_kept(browser: Browser, gateway: GatewayProcess) -> None:
    context = await browser.new_context(locale="zh-CN", color_scheme="dark")
    chat = await ChatPage.open(context, gateway.url)
    await expect(chat.find("#empty h2")).to_have_text("有什么可以帮您？")
    await expect(chat.find("html")).to_have_attribute("lang", "zh-CN")
    await chat.ask("/帮助")
    await expect(chat.answers).to_contain_text("/重试")
    dark = await chat.page.evaluate("getComputedStyle(document.body).backgroundColor")
    await chat.find("#theme").click()
    await expect(chat.find("html")).to_have_attribute("data-theme", "light")
    await chat.find("#language").click()
    await chat.page.reload()
    await expect(chat.find("#new span")).to_have_text("New chat")
    assert await chat.page.evaluate("getComputedStyle(document.body).backgroundColor") != dark
    assert chat.complaints == []


async def test_on_a_narrow_screen_the_list_is_a_drawer(browser: Browser, gateway: GatewayProcess) -> None:
    context = await browser.new_context(viewport={"width": 390, "height": 844}, locale="en-US", has_touch=True)
    chat = await ChatPage.open(context, gateway.url)
    await chat.ask("Hello from a telephone with quite a long question " + "x" * 200)
    await chat.answered(0, "answer 1 to: Hello from a telephone with quite a long question " + "x" * 200)
    await expect(chat.find("#side")).to_be_hidden()
    assert await chat.page.evaluate("document.documentElement.scrollWidth") == 390
    await chat.find("#menu").click()
    await expect(chat.find("#fold")).to_be_focused()
    await expect(chat.listed).to_have_count(1)
    await chat.page.keyboard.press("Escape")
    await expect(chat.find("#side")).to_be_hidden()
    await expect(chat.find("#menu")).to_be_focused()
    await chat.find("#new2").click()
    await expect(chat.find("#empty")).to_be_visible()


async def test_everything_one_can_press_has_a_name(chat: ChatPage) -> None:
    await chat.ask("Hello")
    await chat.answered(0, "answer 1 to: Hello")
    nameless = await chat.page.evaluate(
        """[...document.querySelectorAll("button, a, input, textarea, select")].filter(
            (each) => each.checkVisibility() && !each.getAttribute("aria-label") && !each.textContent.trim()
                && !each.labels?.length).map((each) => each.outerHTML)"""
    )
    assert nameless == []
    await chat.page.reload()
    await expect(chat.turns).to_have_count(1)
    await chat.page.evaluate("document.activeElement.blur()")
    await chat.page.keyboard.press("Tab")
    await expect(chat.find("#skip")).to_be_focused()
    await chat.page.keyboard.press("Enter")
    await expect(chat.prompt).to_be_focused()


async def test_a_long_history_shows_its_end_and_more_on_demand(chat: ChatPage, model: OpenAIServer) -> None:
    model.configure(reply="echo")
    for number in range(45):
        await chat.ask(f"question {number}")
        await chat.answered(number, f"answer to: question {number}")
    await chat.page.reload()
    await expect(chat.turns).to_have_count(40)
    await expect(chat.find(".bubble").last).to_be_in_viewport()
    await chat.find("#more").click()
    await expect(chat.turns).to_have_count(45)
    await expect(chat.find(".bubble").first).to_have_text("question 0")
