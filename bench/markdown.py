"""Rendering and streaming, per dialect: `python -m bench.markdown`.

µs per KB (1,000 characters) of the collected answers in tests/payloads/markdown: parsing them with markdown-it-py alone, our tree,
and each dialect from text to message, the best of several rounds of the same run, in CPU time. Then the cost of one chunk at the start
and at the end of a streamed answer of 100 KB.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from statistics import median
from time import thread_time

from markdown_it import MarkdownIt

from core.markdown.dialects.dingtalk import DINGTALK
from core.markdown.dialects.discord import DISCORD
from core.markdown.dialects.feishu import FEISHU
from core.markdown.dialects.plain import WECHAT
from core.markdown.dialects.slack import SLACK_MARKDOWN, SLACK_MRKDWN
from core.markdown.html import HtmlStream, render
from core.markdown.parse import parse
from core.markdown.preview import Preview
from core.markdown.split import split

_ANSWERS = Path(__file__).parents[1] / "tests/payloads/markdown"
_DIALECTS = (DISCORD, SLACK_MARKDOWN, SLACK_MRKDWN, FEISHU, DINGTALK, WECHAT)
_CHUNK = 12
"""Characters: about what a model sends at once."""


def _answers() -> list[str]:
    names = sorted(_ANSWERS.glob("*.md"))
    return [path.read_text(encoding="utf-8") for path in names if not path.stem.startswith("very-long")]


def _per_kb(work: Callable[[str], object], texts: list[str], rounds: int = 7) -> float:
    """Microseconds per 1,000 characters, the best round."""
    size = sum(map(len, texts)) / 1000
    best = float("inf")
    for _ in range(rounds):
        start = thread_time()
        for text in texts:
            work(text)
        best = min(best, thread_time() - start)
    return best / size * 1e6


def _long_answer(texts: list[str], length: int = 100_000) -> str:
    """Whole answers in a row until there is enough."""
    text = ""
    while len(text) < length:
        text += "\n\n".join(texts) + "\n\n"
    return text[:length]


def _chunks(feed: Callable[[str], object], text: str, chunk: int = _CHUNK) -> list[float]:
    """Microseconds of each chunk."""
    times = []
    for at in range(0, len(text), chunk):
        start = thread_time()
        feed(text[at : at + chunk])
        times.append((thread_time() - start) * 1e6)
    return times


def _ends(name: str, times: list[float]) -> str:
    tenth = len(times) // 10
    first, last = times[:tenth], times[-tenth:]
    mean_first, mean_last = sum(first) / tenth, sum(last) / tenth
    return (
        f"{name:<28} start: median {median(first):7.0f} mean {mean_first:7.0f}"
        f"   end: median {median(last):7.0f} mean {mean_last:7.0f} µs per chunk   (end/start {mean_last / mean_first:.2f})"
    )


def main() -> None:
    texts = [text for text in _answers() if "```rust" not in text]  # an open fence would swallow what follows it
    plain = MarkdownIt("commonmark").enable(["table", "strikethrough"])
    base = _per_kb(plain.parse, texts)
    print(f"{len(texts)} answers, {sum(map(len, texts)) / 1000:.0f} KB; µs per KB, best of 7")
    print(f"{'markdown-it-py, parse':<28} {base:7.0f}   1.00")
    for name, work in [
        ("tree", parse),
        ("HTML", render),
        *((dialect.name, dialect.render) for dialect in _DIALECTS),
        *((f"split for {dialect.name}", lambda text, d=dialect: split(text, d)) for dialect in (DISCORD, FEISHU)),
    ]:
        cost = _per_kb(work, texts)
        print(f"{name:<28} {cost:7.0f}   {cost / base:.2f}")

    # The same text at the start and at the end, so that only the length differs.
    sample = _long_answer(texts, 10_000)
    sample = sample[: sample.rindex("\n\n") + 2]
    text = sample * (100_000 // len(sample))
    print(f"\none answer of {len(text) / 1000:.0f} KB in chunks of {_CHUNK} characters: its first and its last tenth")
    print(_ends("HtmlStream.feed", _chunks(HtmlStream().feed, text)))
    for dialect in (DISCORD, FEISHU):
        preview = Preview(dialect)

        def show(piece: str, preview: Preview = preview) -> None:
            preview.feed(piece)
            preview.growing()

        # An edit or so a second: a hundred characters.
        print(_ends(f"Preview, {dialect.name}, per edit", _chunks(show, text, 100)))
    code = "```python\n" + "    value = compute(value)  # and so on\n" * 2600
    print(_ends("one block of code of 100 KB", _chunks(HtmlStream().feed, code)))


if __name__ == "__main__":
    main()
