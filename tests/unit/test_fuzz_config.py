"""Altered configuration files: each gives a configuration that the program can be built from, or faults in words.

CHATGPT_MS_EXAMPLES sets how many files there are.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from pathlib import Path
from random import Random
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from core.errors import ConfigError
from gateway.config import Config, load
from gateway.translate import chat_settings, dispatch_settings, inbox_settings, session_settings
from tests.fuzzing import Mutator, examples, figure, text_of

EXAMPLE = (Path(__file__).parents[2] / "config.yaml.example").read_text("utf-8")
ENVIRON = {"OPENAI_API_KEY": "sk-of-the-test", "SLACK_BOT_TOKEN": "xoxb-1", "SLACK_APP_TOKEN": "xapp-1", "EMPTY": ""}

_BARE = re.sub(r"^( *)# ?(?=[a-z_-]+:)", r"\1", EXAMPLE, flags=re.MULTILINE)
"""The same with what is commented out."""
_PIECES = (
    *(
        "\t",
        "  ",
        "- ",
        ": ",
        "{",
        "}",
        "[",
        "]",
        "&a ",
        "*a",
        "<<: *a",
        "!!python/object:os.system ",
        "!!binary ",
        "|",
        ">",
    ),
    *(
        "'",
        '"',
        "#",
        "---\n",
        "...\n",
        "? ",
        "%YAML 9.9\n",
        "\ufeff",
        "\0",
        "\x85",
        "\u2028",
        "\ud800",
        "\U000f0041",
        "${",
        "$${",
    ),
    *(
        "${NO_SUCH}",
        "${EMPTY:-x}",
        "${OPENAI_API_KEY}",
        "file:/no/such",
        "file:.",
        "file:/dev/zero",
        "file:~nobody/x",
        "~",
        "null",
    ),
    *(
        "off",
        "on",
        "yes",
        "1e400",
        "-0",
        "0x10",
        "1_000",
        ".inf",
        ".nan",
        "9" * 5_000,
        "1h",
        "-1s",
        "1e9d",
        "10 GB",
        "2026-11-23",
    ),
    *(
        "http://[",
        "https://\x00",
        "sqlite:",
        "sqlite:/",
        "postgresql://",
        "socks9://x",
        "::1",
        "a" * 3_000,
        "[" * 200,
        "{a: " * 200,
    ),
)


def _data() -> Any:
    """What the example says, as data."""
    loaded = yaml.safe_load(_BARE.replace("${", "$${"))
    assert isinstance(loaded, dict)
    return json.loads(json.dumps(loaded, default=str).replace("$${", "${"))


def altered(mutator: Mutator, chance: Random, data: Any) -> bytes:
    """A file."""
    if chance.randrange(2):  # JSON is YAML
        return text_of(mutator.altered([data, *({name: value} for name, value in data.items())], 3)).encode(
            "utf-8", "surrogatepass"
        )
    lines = chance.choice((EXAMPLE, _BARE)).splitlines(keepends=True)
    for _ in range(chance.randint(1, 4)):
        at = chance.randrange(len(lines))
        match chance.randrange(6):
            case 0:
                del lines[at]
            case 1:
                lines.insert(at, chance.choice(lines))
            case 2:
                where = chance.randint(0, len(lines[at]))
                lines[at] = lines[at][:where] + chance.choice(_PIECES) + lines[at][where:]
            case 3:
                key, colon, _ = lines[at].partition(": ")
                lines[at] = f"{key}{colon}{chance.choice(_PIECES)}\n"
            case 4:
                lines[at] = " " * chance.randrange(8) + lines[at].lstrip(" ")
            case _:
                lines[at] = lines[at].lstrip("# ")
    text = "".join(lines)
    return mutator.broken(text) if chance.randrange(12) == 0 else text.encode("utf-8", "surrogatepass")


def judge(path: Path, content: bytes, counted: Counter[str]) -> None:
    """The file is read or refused."""
    path.write_bytes(content)
    try:
        config = load(path, ENVIRON)
    except ConfigError as error:
        counted["refused"] += 1
        faults = str(error) or "nothing"
    else:
        faults = ""
    if faults:
        assert all(line.startswith(str(path)) for line in faults.splitlines()), faults
        assert "sk-of-the-test" not in faults
        return
    counted["read"] += 1
    assert isinstance(config, Config)
    chat_settings(config.chat)
    session_settings(config, None)
    inbox_settings(config)
    dispatch_settings(config)
    list(config.secrets())
    assert config.reloadable_changes(config) == ((), ())
    repr(config)


def test_an_altered_file_is_read_or_refused_in_words(tmp_path: Path) -> None:
    counted, data = Counter[str](), _data()

    @examples(80)
    @given(st.randoms(use_true_random=False))
    def fire(random: Random) -> None:
        judge(tmp_path / "config.yaml", altered(Mutator(random), random, data), counted)

    fire()
    figure("configuration files", counted)
    assert counted["read"]
    assert counted["refused"]


def test_a_reader_that_raises_what_it_meets_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The paired negative: faults of YAML are raised as they are."""
    monkeypatch.setattr("gateway.config.document.read", lambda text: yaml.safe_load(text).data)
    with pytest.raises((yaml.YAMLError, AttributeError)):
        judge(tmp_path / "config.yaml", b"chat: {model: [", Counter())
