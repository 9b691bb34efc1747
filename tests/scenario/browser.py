"""A real Chromium, driven from the tests, and the chat page as a person sees it."""

from __future__ import annotations

import os
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import pytest
from playwright.async_api import Browser, BrowserContext, Locator, Page, async_playwright, expect

_FLAGS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)

PATIENCE = 30_000
"""Milliseconds after which waiting for the page ends in a failure; nothing is asserted of how long it takes."""

expect.set_options(timeout=PATIENCE)


def chromium() -> str:
    """Where it is installed. Skips the test if nowhere, unless this is CI: there it fails."""
    found = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if found is None:
        if os.environ.get("CI"):
            pytest.fail("no Chromium is installed; the web chat cannot be tested")
        pytest.skip("no Chromium is installed: apt-get install chromium")
    return found


@asynccontextmanager
async def launched() -> AsyncIterator[Browser]:
    """Chromium without a window."""
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=chromium(), args=list(_FLAGS))
        try:
            yield browser
        finally:
            await browser.close()


@dataclass
class ChatPage:
    """The page in one tab, with the words for what one does there."""

    page: Page
    complaints: list[str] = field(default_factory=list)
    """Errors in the browser's console, such as a breach of the content security policy."""

    @classmethod
    async def open(cls, context: BrowserContext, url: str) -> ChatPage:
        """A new tab at `url`, connected."""
        chat = cls(await context.new_page())
        chat.page.set_default_timeout(PATIENCE)
        chat.page.on("pageerror", lambda error: chat.complaints.append(str(error)))
        chat.page.on(
            "console", lambda message: chat.complaints.append(message.text) if message.type == "error" else None
        )
        await chat.page.goto(url)
        return chat

    def find(self, selector: str, **options: Any) -> Locator:
        """Elements of the page."""
        return self.page.locator(selector, **options)

    @property
    def prompt(self) -> Locator:
        """Where one writes."""
        return self.find("#prompt")

    @property
    def turns(self) -> Locator:
        """Questions with their answers, oldest first."""
        return self.find(".turn")

    @property
    def answers(self) -> Locator:
        """What the answers say."""
        return self.find(".md")

    @property
    def listed(self) -> Locator:
        """The titles of the conversations, latest first."""
        return self.find("#list .row a > span")

    async def ask(self, text: str) -> None:
        """Write and send."""
        await self.prompt.fill(text)
        await self.prompt.press("Enter")

    async def answered(self, turn: int, text: str) -> None:
        """Wait until the turn with this number, from 0, has the whole answer `text`."""
        await expect(self.turns.nth(turn)).to_have_attribute("data-state", "complete")
        await expect(self.answers.nth(turn)).to_have_text(text)
