"""Generated answers: what a model writes, what an attacker makes it write, and noise."""

from __future__ import annotations

import os

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st

_EXAMPLES = int(os.environ.get("CHATGPT_MS_EXAMPLES", "0"))


def examples(default: int) -> settings:
    """`default` examples, or CHATGPT_MS_EXAMPLES where that is set."""
    return settings(
        max_examples=_EXAMPLES or default,
        deadline=None,
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.large_base_example],
    )


WORDS = st.sampled_from(
    [
        "the",
        "answer",
        "is",
        "a",
        "list",
        "of",
        "words",
        "and",
        "code,",
        "but",
        "not",
        "only",
        "that.",
        "really?",
        "yes!",
        "注意：",
        "内容",
        "很长的一段话。",
        "「引用」",
        "日本語",
        "한국어",
        "текст",
        "שלום",
        "مرحبا",
        "café",
        "naïve",
        "é",
        "👨\u200d👩\u200d👧\u200d👦",
        "👍🏽",
        "🇩🇪🇫🇷",
        "✅",
        "snake_case",
        "__init__",
        "2*3*4",
        "a<b",
        "&amp;",
        "&lt;",
        "C:\\dir",
        "$5",
        "100%",
        "#1",
        "v1.2.3",
        "-x",
        "--flag",
        "https://example.com/a_b?c=d&e=f",
        "http://x.y/z)",
        "e.g.",
        "foo@bar.com",
        "file.py",
        "README.md",
        "1.",
        "2)",
        "-",
        "+",
        ">",
        "|",
        "~",
        "```",
        "`",
        "**",
        "*",
        "_",
        "~~",
        "[x]",
        "![",
        "](",
        "\\(",
        "\\)",
        "$$",
        "<b>",
        "</div>",
        "<br>",
        ":smile:",
        "\\",
        "&",
        "<",
        ">",
        "word",
        "word",
        "word",
        "word",
    ]
)

ATTACK_TEXTS = [
        "@everyone", "@here", "@channel", "@all", "@所有人", "@全体成员", "＠everyone", "@\u200beveryone", "@\u2060all", "@EVERYONE",
        "<@U0123ABC>", "<@123456789012345678>", "<@!123456789012345678>", "<@&123456789012345678>", "<#C0123ABC>", "<#123456>",
        "<!channel>", "<!here>", "<!everyone>", "<!subteam^S0123>", "<!date^1^x|y>", '<at user_id="all"></at>', "<at id=all></at>",
        "<at ids=a,b></at>", '<person id="ou_1"></person>', "&lt;at id=all&gt;&lt;/at&gt;", "&lt;@U0123ABC&gt;", "\\<@U0123ABC>",
        "<font color=red>", "<@\u200bU0123ABC>", "< @U0123ABC>", "&#64;everyone", "\\@everyone", "@e\u200bveryone", "[@everyone](https://x.y)",
        "<https://evil.example|https://bank.example>", "[https://bank.example](https://evil.example)", "`<!channel>`", "`@everyone`",
        "[x](javascript:alert(1))", "||spoiler||", "<t:1:R>", "<:name:123>", "</cmd:123>", "<id:home>", "&commat;everyone",
]  # fmt: skip

ATTACKS = st.sampled_from(ATTACK_TEXTS)


_MARKS = st.sampled_from(
    ["**", "*", "_", "~~", "`", "``", "```", "$", "$$", "\\(", "\\)", "\\[", "\\]", "[", "](https://example.com/x_y)", "](", ")", "![", "<", ">",
     "|", "\\", "&", "***", "__", "~", "](<https://example.com/a (b)>)", "<br>", " ", " ", " "]
)  # fmt: skip

_LINES = st.sampled_from(
    ["\n", "\n\n", "\n- ", "\n* ", "\n  - ", "\n    - ", "\n1. ", "\n7) ", "\n   2. ", "\n> ", "\n> > ", "\n> - ", "\n# ", "\n### ", "\n\n    ",
     "\n```python\n", "\n```\n", "\n  ```\n", "\n~~~\n", "\n- [ ] ", "\n- [x] ", "\n---\n", "\n===\n", "\n$$\n", "\n\\[\n", "\n\\]\n", "\r\n", "\t",
     "\n| ", " | ", " |\n", "\n|---|---|\n", "\n| a | b |\n|:--|--:|\n| ", "\n| a |\n|---|\n| ", "\n\n", "\n\n", "\n   ", "\n[1]: https://example.com\n"]
)  # fmt: skip

_ANYTHING = st.characters(exclude_categories=["Cs"])

_SPACED = WORDS.map(lambda word: word + " ")

SOUP = st.lists(
    st.one_of(_SPACED, _SPACED, _SPACED, WORDS, ATTACKS, _MARKS, _MARKS, _LINES, _LINES, _ANYTHING), max_size=60
).map("".join)
"""Pieces of markup and words in any order: structure comes about by itself, broken in every way."""


def _styled(text: str, style: str) -> str:
    return style.replace("…", text)


_STYLED = st.builds(
    _styled,
    st.one_of(WORDS, ATTACKS),
    st.sampled_from(
        ["**…**", "*…*", "~~…~~", "`…`", "[…](https://example.com/x_y)", "![…](https://example.com/i.png)", "$…$", "\\(…\\)", "***…***", "**…：**"]
    ),
)  # fmt: skip

_SENTENCE = st.lists(st.one_of(WORDS, WORDS, WORDS, _STYLED), min_size=1, max_size=25).map(" ".join)

_LONG = st.builds(lambda word, count: word * count, st.one_of(WORDS, ATTACKS, _ANYTHING), st.integers(20, 120))


def _table(rows: list[list[str]]) -> str:
    lines = ["| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |" for row in rows]
    return "\n".join([lines[0], "|---|:-:|", *lines[1:]])


_CELL = st.one_of(WORDS, _STYLED, _SENTENCE)

_BLOCK = st.one_of(
    _SENTENCE,
    _SENTENCE,
    _LONG,
    st.lists(_SENTENCE, min_size=1, max_size=5).map(lambda items: "\n".join("- " + item for item in items)),
    st.lists(_SENTENCE, min_size=1, max_size=5).map(
        lambda items: "\n".join(f"{n}. {item}\n   - below\n\n     more" for n, item in enumerate(items, 8))
    ),
    st.lists(_SENTENCE, min_size=1, max_size=8).map(lambda lines: "```python\n" + "\n".join(lines) + "\n```"),
    st.lists(_SENTENCE, min_size=1, max_size=4).map(lambda lines: "\n".join("> " + line for line in lines)),
    st.lists(st.tuples(_CELL, _CELL).map(list), min_size=1, max_size=5).map(_table),
    _SENTENCE.map(lambda text: "## " + text),
    _SENTENCE.map(lambda text: f"$$\n{text}\n$$"),
    st.just("---"),
)

WRITTEN = st.lists(_BLOCK, min_size=1, max_size=6).map("\n\n".join)
"""Answers as models write them, longer than a small message."""

ANSWERS = st.one_of(SOUP, SOUP, WRITTEN, st.text(max_size=100))
