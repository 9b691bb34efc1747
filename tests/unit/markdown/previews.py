"""Pictures for docs/markdown.md: some answers on the web page and as messages of the other platforms.

python -m tests.unit.markdown.previews            needs a Chromium on the PATH
"""

from __future__ import annotations

import html
import re
import shutil
import sys

from playwright.sync_api import sync_playwright

from core.markdown.dialect import Dialect
from core.markdown.html import render
from core.markdown.split import split
from tests.unit.markdown.golden import ROOT, answer
from tests.unit.markdown.platforms import PLATFORMS

_IMAGES = ROOT / "docs/images"
_PICTURES = {
    "markdown-answers": ["sql-explained", "quadratic-formula"],
    "markdown-table": ["japanese-answer", "mention-attack"],
}
_STYLE = """
body { font: 14px/1.5 system-ui, "Noto Sans", "Noto Sans CJK SC", sans-serif; background: #eef0f3; margin: 20px; width: 1560px }
.grid { display: grid; grid-template-columns: 1fr 1fr 1fr 1fr; gap: 14px; margin-bottom: 26px; align-items: start }
.bubble { background: #fff; border-radius: 10px; padding: 10px 14px; box-shadow: 0 1px 2px #0002; overflow: hidden }
.bubble > h6 { margin: 0 0 6px; font-size: 11px; color: #667; text-transform: uppercase; letter-spacing: .05em }
.bubble h1, .bubble h2, .bubble h3, .bubble h4 { font-size: 1.1em; margin: .5em 0 .3em }
.bubble p, .bubble ul, .bubble ol { margin: .35em 0; padding-left: 0 } .bubble ul, .bubble ol { padding-left: 1.4em }
pre, code { font: 12px/1.45 "DejaVu Sans Mono", "Noto Sans Mono CJK SC", monospace; background: #f3f4f6; border-radius: 4px }
pre { padding: 8px; overflow: hidden } code { padding: 1px 3px } pre code { padding: 0 }
table { border-collapse: collapse; font-size: 13px } td, th { border: 1px solid #ccd; padding: 2px 8px }
.center { text-align: center } .right { text-align: right }
blockquote { border-left: 3px solid #ccd; margin: .4em 0; padding-left: 10px; color: #445 } .raw { white-space: pre-wrap }
a { color: #1a62c5; text-decoration: none } .target { color: #a33 }
"""


def _bubble(title: str, body: str) -> str:
    return f'<div class="bubble"><h6>{html.escape(title)}</h6>{body}</div>'


def _suggested(dialect: Dialect, message: str) -> str:
    """Roughly what a client makes of the message: ours stands in for those that read Markdown."""
    if dialect.name == "plain text":
        return f'<div class="raw">{html.escape(message)}</div>'
    if dialect.name == "Slack mrkdwn":
        text = re.sub(r"(?<![\w*])\*(?=\S)([^*\n]+)\*", r"<b>\1</b>", html.escape(html.unescape(message)))
        text = re.sub(r"(?<![\w_])_(?=\S)([^_\n]+)_(?!\w)", r"<i>\1</i>", text)
        text = re.sub(r"```\n(.*?)\n```", r"<pre>\1</pre>", text, flags=re.DOTALL)
        text = re.sub(r"&lt;(https?://[^|&]+)(?:\|([^&]*))?&gt;", lambda m: f"<a>{m[2] or m[1]}</a>", text)
        text = re.sub(r"`([^`]+)`", r"<code>\1</code>", text)
        return f'<div class="raw">{text}</div>'
    if dialect.name == "DingTalk":  # it decodes entities in code too
        return re.sub(
            r"<code.*?</code>", lambda code: code[0].replace("&amp;#", "&#"), render(message), flags=re.DOTALL
        )
    return render(message)


def _page(names: list[str]) -> str:
    rows = []
    for name in names:
        text = answer(name)
        bubbles = [_bubble("web page", render(text))]
        for platform in PLATFORMS.values():
            message = platform.dialect.render(split(text, platform.dialect)[0])
            bubbles.append(_bubble(platform.dialect.name, _suggested(platform.dialect, message)))
        rows.append(f'<div class="grid">{"".join(bubbles)}</div>')
    return f'<!doctype html><meta charset="utf-8"><style>{_STYLE}</style>{"".join(rows)}'


def main() -> None:
    browser_path = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if not browser_path:
        sys.exit("no Chromium found on the PATH")
    _IMAGES.mkdir(exist_ok=True)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=browser_path, args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": 1600, "height": 400})
        for picture, names in _PICTURES.items():
            page.set_content(_page(names))
            page.screenshot(path=_IMAGES / f"{picture}.png", full_page=True)
        browser.close()


if __name__ == "__main__":
    main()
