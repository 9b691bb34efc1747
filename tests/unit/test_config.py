"""Reading config.yaml: what it means, and what is said about one that is wrong."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from contextlib import suppress
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import Field, SecretStr

from core.account import AccountConfig
from core.adapter import Adapter, AdapterSpec, AnyAdapterSpec
from core.errors import ConfigError
from core.messages import Scope
from core.quantities import parse_duration, parse_size, write_duration
from gateway import document, registry
from gateway.config import Config, _Reading, load
from gateway.manual import describe
from gateway.settings import Busy

EXAMPLE = Path(__file__).parents[2] / "config.yaml.example"


class RoomConfig(AccountConfig):
    """An account of a platform that exists in these tests alone."""

    token: SecretStr = SecretStr("")
    app_id: str = ""
    hook: str = ""
    pace: float = Field(1.0, ge=0)
    url: str = "https://room.example"

    def credentials_missing(self) -> tuple[str, ...]:
        given = {"token": self.token.get_secret_value(), "app_id": self.app_id}
        return tuple(name for name, value in given.items() if not value)


class StrictConfig(AccountConfig):
    """One that insists on its token."""

    token: SecretStr = Field(min_length=4, description="The bot's token.")


def never(*_: object) -> Adapter:
    raise AssertionError("reading a configuration creates no adapter")


SPECS = {
    name: AdapterSpec(name, model, never)
    for name, model in {"api": AccountConfig, "web": AccountConfig, "room": RoomConfig, "strict": StrictConfig}.items()
}


def find_spec(platform: str) -> AnyAdapterSpec:
    if platform not in SPECS:
        raise ConfigError(f"unknown platform {platform!r}")
    return SPECS[platform]


Read = Callable[..., Config]


@pytest.fixture
def read(tmp_path: Path) -> Read:
    """Read a configuration from text."""

    def from_text(text: str | bytes, environ: Mapping[str, str] | None = None) -> Config:
        file = tmp_path / "config.yaml"
        file.write_bytes(text if isinstance(text, bytes) else text.encode())
        return load(file, environ or {}, find_spec=find_spec)

    return from_text


@pytest.fixture
def faults(read: Read, tmp_path: Path) -> Callable[..., list[str]]:
    """What is said about a faulty configuration, without the folder."""

    def of_text(text: str | bytes, environ: Mapping[str, str] | None = None) -> list[str]:
        with pytest.raises(ConfigError) as raised:
            read(text, environ)
        assert raised.value.exit_code == 2
        assert str(raised.value).count("\n") == len(raised.value.faults) - 1, "one line each"
        return [fault.removeprefix(f"{tmp_path}/") for fault in raised.value.faults]

    return of_text


Faults = Callable[..., list[str]]

# ---- defaults ----


def test_without_a_file_the_defaults_hold(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    config = load(None, {}, find_spec=find_spec)

    assert config.chat.base_url == "https://api.openai.com/v1"
    assert config.chat.model == "gpt-5-mini"
    assert config.chat.timeout == timedelta(seconds=120)
    assert config.sessions.scope is Scope.USER
    assert config.sessions.busy is Busy.QUEUE
    assert config.sessions.idle_after == timedelta(hours=24)
    assert config.storage.path == Path("data/chatgpt-ms.db")
    assert (config.server.host, config.server.port) == ("127.0.0.1", 5000)
    assert config.limits.tokens_per_day == 200_000
    assert sorted(config.accounts) == ["api", "web"]
    assert config.left_out == ()


def test_config_yaml_of_the_folder_is_read_when_none_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "config.yaml").write_text("chat: {model: other}\n")

    assert load(None, {}, find_spec=find_spec).chat.model == "other"


@pytest.mark.parametrize(
    "text", ["", "\n", "# nothing\n", "---\n", "null\n", "chat:\nserver:\naccounts:\n", "﻿chat: {}\n"]
)
def test_an_empty_file_means_the_defaults(read: Read, text: str) -> None:
    assert read(text) == read("{}")


def test_the_environment_gives_key_and_address(read: Read) -> None:
    config = read("", {"OPENAI_API_KEY": "sk-1234", "OPENAI_BASE_URL": "http://127.0.0.1:8080/v1"})

    assert config.chat.api_key.get_secret_value() == "sk-1234"
    assert config.chat.base_url == "http://127.0.0.1:8080/v1"


@pytest.mark.parametrize(
    ("text", "environ", "embedded"),
    [
        ("", {}, True),
        ("", {"OPENAI_API_KEY": ""}, True),
        ("", {"OPENAI_API_KEY": "sk-1234"}, False),
        ("chat: {base_url: local}", {"OPENAI_API_KEY": "sk-1234"}, True),
        ("chat: {base_url: http://127.0.0.1:11434/v1}", {}, False),  # such servers need no key
        ("chat: {api_key: ''}", {"OPENAI_API_KEY": "sk-1234"}, True),
    ],
)
def test_the_embedded_model_answers_when_asked_for_or_without_a_key(
    read: Read, text: str, environ: dict[str, str], embedded: bool
) -> None:
    assert read(text, environ).chat.embedded is embedded


# ---- the example ----


def test_the_example_needs_no_environment_and_says_what_holds_without_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    example = load(EXAMPLE, {})

    assert example.model_dump() == load(None, {}).model_dump()
    # whatever needs credentials waits for them
    assert {name for name, _ in example.left_out} == set(registry.built_in()) - {"api", "web"}


def test_the_example_mentions_every_key_with_a_comment() -> None:
    text = EXAMPLE.read_text()
    read = document.read(text)
    lines = text.splitlines()
    open_ended = (("server", "api_keys"), ("chat", "prices"))
    paths = [key.path for key in describe() if len(key.path) == 2 or key.path[:2] not in open_ended]
    shared = {key.path for key in describe(AccountConfig)}
    paths += [("accounts", "api", *path) for path in sorted(shared)]
    for platform in registry.built_in():
        own = {key.path for key in describe(registry.spec(platform).config)} - shared
        paths += [("accounts", platform, *path) for path in sorted(own)]

    assert [".".join(path) for path in paths if path not in read.lines] == []
    uncommented = [".".join(path) for path in paths if "#" not in lines[read.lines[path] - 1] and len(path) > 1]
    # these say it themselves
    names = {"server.port", "limits.messages_per_minute", "limits.messages_per_day"}
    assert [
        path for path in uncommented if path not in names and ".budget." not in path and ".total." not in path
    ] == []


def test_every_key_is_described() -> None:
    keys = list(describe())

    assert len(keys) > 40
    assert [key.path for key in keys if not key.description.endswith(".")] == []
    assert {key.path: key.default for key in keys}[("sessions", "idle_after")] == "24h"


# ---- references ----


def test_references_are_replaced_wherever_they_stand(read: Read, tmp_path: Path) -> None:
    (tmp_path / "key").write_text("sk-from-a-file\n")
    config = read(
        """
        chat: {api_key: file:./key, model: ${MODEL}, system_prompt: "I am ${NAME:-nobody}, ${NAME:-nobody}; $${NAME} $NAME"}
        server: {port: ${PORT:-8000}, api_keys: [${KEY}, {key: ${KEY}-2, namespace: two}]}
        sessions: {max_turns: "${TURNS}"}
        """,
        {"MODEL": "m-1", "KEY": "k" * 20, "TURNS": "7"},
    )

    assert config.chat.api_key.get_secret_value() == "sk-from-a-file"
    assert config.chat.model == "m-1"
    assert config.chat.system_prompt == "I am nobody, nobody; ${NAME} $NAME"
    assert config.server.port == 8000
    assert config.server.key_pairs()[1] == ("k" * 20 + "-2", "two")
    assert config.server.key_pairs()[0][1].startswith("key-")
    assert config.sessions.max_turns == 7


def test_a_default_may_hold_what_means_something_in_yaml(read: Read) -> None:
    config = read("chat: {system_prompt: ${PROMPT:-Be kind, brief: and #1}, model: m}")

    assert config.chat.system_prompt == "Be kind, brief: and #1"
    assert config.chat.model == "m"


@pytest.mark.parametrize("value", ["file:/etc/passwd", "${OTHER}", "$${X}", "a: b", "- x", "${", "", " x "])
def test_what_a_variable_holds_is_taken_as_it_is(read: Read, value: str) -> None:
    assert read("chat: {system_prompt: ${PROMPT}}", {"PROMPT": value, "OTHER": "no"}).chat.system_prompt == value


def test_a_set_but_empty_variable_takes_the_default(read: Read) -> None:
    assert read("chat: {model: ${MODEL:-m}}", {"MODEL": ""}).chat.model == "m"


def test_a_file_name_may_be_made_of_a_variable(read: Read, tmp_path: Path) -> None:
    (tmp_path / "openai").write_text("sk-123456\r\n")

    config = read("chat: {api_key: file:${CREDENTIALS_DIRECTORY}/openai}", {"CREDENTIALS_DIRECTORY": str(tmp_path)})
    assert config.chat.api_key.get_secret_value() == "sk-123456"


def test_references_that_lead_nowhere_are_faults(faults: Faults, tmp_path: Path) -> None:
    (tmp_path / "binary").write_bytes(b"\xff\xfe")
    text = """\
chat:
  model: ${MODEL}
  api_key: file:/nowhere/at/all
  system_prompt: file:./binary
  base_url: "${not a name}"
  fallback_models: [file:.]
server:
  port: x${PORT}
"""
    assert faults(text) == [
        "config.yaml:2: chat.model: the environment variable MODEL is not set; set it, or write ${MODEL:-some default}",
        "config.yaml:3: chat.api_key: the file '/nowhere/at/all' does not exist",
        f"config.yaml:4: chat.system_prompt: the file '{tmp_path}/binary' is not UTF-8 text",
        "config.yaml:5: chat.base_url: '${' starts a reference such as ${NAME}; write '$${' for a plain one",
        "config.yaml:6: chat.fallback_models[0]: the file '.' is not a regular file".replace("'.'", f"'{tmp_path}'"),
        "config.yaml:8: server.port: the environment variable PORT is not set; set it, or write ${PORT:-some default}",
    ]


# ---- accounts ----

ROOM = """
accounts:
  room: {token: ${ROOM_TOKEN}, app_id: ${ROOM_APP}, hook: ${ROOM_HOOK}}
"""


def test_an_account_is_read_by_its_platforms_model(read: Read) -> None:
    config = read(ROOM, {"ROOM_TOKEN": "t-123456", "ROOM_APP": "a"})
    room = config.accounts["room"]

    assert isinstance(room, RoomConfig)
    assert room.token.get_secret_value() == "t-123456"
    assert room.platform == "room"
    assert room.hook == ""  # may be empty, so it needs no default
    assert config.left_out == ()
    assert "t-123456" in list(config.secrets())


@pytest.mark.parametrize(
    ("environ", "reason"),
    [
        ({}, "token is empty (ROOM_TOKEN is not set), app_id is empty (ROOM_APP is not set)"),
        ({"ROOM_TOKEN": "t", "ROOM_APP": ""}, "app_id is empty"),
    ],
)
def test_an_account_without_credentials_is_left_out_and_said(read: Read, environ: dict[str, str], reason: str) -> None:
    config = read(ROOM, environ)

    assert config.left_out == (("room", reason),)
    assert sorted(config.accounts) == ["api", "web"]


def test_a_required_credential_that_is_not_set_leaves_the_account_out_too(read: Read) -> None:
    assert read("accounts: {strict: {token: ${T}}}").left_out == (("strict", "token is empty (T is not set)"),)


def test_other_keys_of_an_account_must_be_set(faults: Faults) -> None:
    text = "accounts:\n  room:\n    pace: ${PACE}\n    url: ${URL}\n    access: {allow: [${WHO}]}\n"

    assert [fault.partition(" is not set")[0] for fault in faults(text)] == [
        "config.yaml:3: accounts.room.pace: the environment variable PACE",
        "config.yaml:4: accounts.room.url: the environment variable URL",
        "config.yaml:5: accounts.room.access.allow[0]: the environment variable WHO",
    ]


def test_a_platform_may_have_several_accounts(read: Read) -> None:
    config = read("accounts: {room-eu: {platform: room, token: aaaa, app_id: b}, room: {token: cccc, app_id: d}}")

    assert {name: account.platform for name, account in config.accounts.items() if name[0] == "r"} == {
        "room": "room",
        "room-eu": "room",
    }


@pytest.mark.parametrize("word", ["null", "", "~", "false", "off", "no", "False"])
def test_what_is_on_by_default_can_be_turned_off(read: Read, word: str) -> None:
    assert list(read(f"accounts:\n  api: {word}\n").accounts) == ["web"]


@pytest.mark.parametrize("word", ["true", "on", "yes", "{}"])
def test_an_account_can_be_turned_on_in_a_word(read: Read, word: str) -> None:
    assert sorted(read(f"accounts:\n  web: {word}\n").accounts) == ["api", "web"]


def test_words_that_old_yaml_takes_for_booleans_are_choices(read: Read) -> None:
    access = read("accounts: {api: {access: {direct: off, channels: off}}}").accounts["api"].access

    assert (access.direct, access.channels) == ("off", "off")


def test_faulty_accounts_are_all_told(faults: Faults) -> None:
    text = """\
accounts:
  romo: {}
  Room 1: {platform: room}
  room: {tokn: x, pace: -1, access: {direct: close}}
  strict: {}
  web: [1]
  api: {platform: nope}
"""
    assert faults(text) == [
        "config.yaml:2: accounts.romo: unknown platform 'romo'",
        "config.yaml:3: accounts.Room 1: an account's name has only a-z, 0-9 and -, at most 63 of them",
        "config.yaml:4: accounts.room.access.direct: got 'close', expected 'open', 'allowlist', 'pairing' or 'off'",
        "config.yaml:4: accounts.room.pace: got -1, expected greater than or equal to 0",
        "config.yaml:4: accounts.room.tokn: unknown key; did you mean 'token'?",
        "config.yaml:5: accounts.strict.token: missing; The bot's token.",
        "config.yaml:6: accounts.web: got a list, expected a block of keys, or off",
        "config.yaml:7: accounts.api.platform: unknown platform 'nope'",
    ]


# ---- faults ----


def test_every_fault_is_told_at_once_with_its_line(faults: Faults) -> None:
    text = """\
chat:
  modle: x
  timeout: 3 weeks
  base_url: ftp://x
  fallback_models: abc
  connect_timeout: 0s
sessions: {scope: usr, idle_after: -1, max_turns: many, busy: yes}
storage: {url: "postgresql://me:hunter2@db/chat", retention: true}
server: {prot: 5, port: 70000, max_body: big, trusted_proxies: [everybody], public_url: chat.example.com}
limits: {queued: 0, messages_per_day: 1.5, pending: "9000"}
log: {level: loud}
serve: {}
"""
    assert faults(text) == [
        "config.yaml:2: chat.modle: unknown key; did you mean 'model'?",
        "config.yaml:3: chat.timeout: got '3 weeks', expected a duration such as 500ms, 30s, 15m, 24h or 30d",
        "config.yaml:4: chat.base_url: got 'ftp://x', expected a URL such as https://api.openai.com/v1, or 'local' for the embedded model",
        "config.yaml:5: chat.fallback_models: got 'abc', expected a list",
        "config.yaml:6: chat.connect_timeout: got '0s', expected greater than 0 seconds",
        "config.yaml:7: sessions.scope: got 'usr', expected 'user', 'user_in_channel', 'thread' or 'channel'",
        "config.yaml:7: sessions.idle_after: got -1, expected a duration such as 500ms, 30s, 15m, 24h or 30d",
        "config.yaml:7: sessions.max_turns: got 'many', expected a whole number",
        "config.yaml:7: sessions.busy: got 'yes', expected 'queue', 'merge' or 'interrupt'",
        "config.yaml:8: storage.url: got 'postgresql://[redacted]@db/chat': PostgreSQL is not in this version; use sqlite:data/chatgpt-ms.db",
        "config.yaml:8: storage.retention: got True, expected a duration such as 500ms, 30s, 15m, 24h or 30d",
        "config.yaml:9: server.port: got 70000, expected less than or equal to 65535",
        "config.yaml:9: server.public_url: got 'chat.example.com', expected a URL such as https://example.com/v1",
        "config.yaml:9: server.trusted_proxies[0]: got 'everybody', expected an address or network such as 10.0.0.0/8",
        "config.yaml:9: server.max_body: got 'big', expected a size such as 64KB, 1MB or 10MiB",
        "config.yaml:9: server.prot: unknown key; did you mean 'port'?",
        "config.yaml:10: limits.messages_per_day: got 1.5, expected a whole number",
        "config.yaml:10: limits.queued: got 0, expected greater than or equal to 1",
        "config.yaml:11: log.level: got 'loud', expected 'debug', 'info', 'warning' or 'error'",
        "config.yaml:12: serve: unknown key; did you mean 'server'?",
    ]


def test_a_key_far_from_any_other_lists_what_there_is(faults: Faults) -> None:
    assert faults("wallpaper: blue") == [
        "config.yaml:1: wallpaper: unknown key; there are chat, sessions, storage, server, limits, log, accounts"
    ]


@pytest.mark.parametrize("text", ["left_out: []", "_left_out: []", "model_config: {}", "__class__: x"])
def test_nothing_but_keys_can_be_set(faults: Faults, text: str) -> None:
    assert "unknown key" in faults(text)[0]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("chat:\n  model: a: b\n", "config.yaml:2: not valid YAML in column 11: mapping values are not allowed here: model: a: b"),
        ("chat:\n\tmodel: x\n", "config.yaml:2: not valid YAML in column 1: a tab where only spaces may stand: model: x"),
        ("chat: [1, 2\nserver: {}\n", "config.yaml:2: not valid YAML in column 7"),
        ("chat: 'open\n", "config.yaml:2: not valid YAML in column 1: found unexpected end of stream: the end of the file"),
        ("chat: *nobody\n", "config.yaml:1: not valid YAML in column 7: found undefined alias 'nobody': chat: *nobody"),
        ("a: 1\n---\nb: 2\n", "config.yaml:2: not valid YAML in column 1: but found another document: ---"),
        ("chat: \x00\n", "config.yaml:1: the character '\\x00' may not stand in YAML"),
        ("- chat\n", "config.yaml:1: not a configuration: expected keys such as 'chat:' at the top"),
        ("just text\n", "config.yaml:1: not a configuration"),
        ("%YAML 3.0\n---\n{}\n", "config.yaml:1: not valid YAML in column 1: found incompatible YAML document"),
        (b"chat:\n  model: \xff\n", "config.yaml:2: not UTF-8; save the file as UTF-8"),
        ("[" * 3000, "config.yaml: not valid YAML: nested too deeply"),
    ],
)  # fmt: skip
def test_broken_yaml_is_told_with_line_column_and_text(faults: Faults, text: str | bytes, said: str) -> None:
    found = faults(text)
    assert len(found) == 1
    assert found[0].startswith(said)


def test_a_secret_in_a_broken_line_is_not_shown(faults: Faults) -> None:
    assert "sk-proj" not in faults("chat: {}\napi_key: x: sk-proj-1234567890abcdef\n")[0]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("chat: {model: a, model: b}", "chat.model: given twice, first in line 1"),
        ("chat: {}\nlog: {}\nchat: {}\n", "config.yaml:3: chat: given twice, first in line 1"),
        ("chat: !!python/object/apply:os.system [id]", "chat: the tag 'tag:yaml.org,2002:python/object/apply:os.system' is"),
        ("chat: {model: !secret x}", "chat.model: the tag '!secret' is not supported"),
        ("chat: {model: !!binary aGk=}", "chat.model: the tag 'tag:yaml.org,2002:binary' is not supported"),
        ("chat: {model: !!int x}", "chat.model: the tag 'tag:yaml.org,2002:int' is not supported"),
        ("chat: {[1]: x}", "chat: a key must be a word"),
        ("chat: &a {local: *a}", "chat.local: an alias that contains itself"),
        ("<<: 5", "'<<' takes a block of keys"),
    ],
)  # fmt: skip
def test_yaml_that_is_more_than_data_is_refused(faults: Faults, text: str, said: str) -> None:
    assert any(said in fault for fault in faults(text))


def test_aliases_of_aliases_cannot_fill_the_memory(faults: Faults) -> None:
    levels = "".join(f"x{n}: &x{n} [{', '.join([f'*x{n - 1}'] * 10)}]\n" for n in range(1, 10))

    assert faults(f"x0: &x0 [a]\n{levels}") == ["config.yaml: too large: more than 20000 values; look at the aliases"]


def test_anchors_and_merges_are_fine(read: Read) -> None:
    config = read(
        """
        accounts:
          room: &room {token: &t abcdef, app_id: one, pace: 2}
          room-b: {<<: *room, platform: room, app_id: two}
          room-c: {platform: room, token: *t, app_id: three}
        """
    )
    second, third = config.accounts["room-b"], config.accounts["room-c"]

    assert isinstance(second, RoomConfig)
    assert isinstance(third, RoomConfig)
    assert (second.app_id, second.pace, third.token.get_secret_value()) == ("two", 2.0, "abcdef")


def test_a_number_where_text_belongs_is_to_be_quoted(faults: Faults, read: Read) -> None:
    text = "accounts: {api: {access: {allow: [123456789012345678]}}}"

    assert faults(text) == [
        "config.yaml:1: accounts.api.access.allow[0]: got 123456789012345678, expected text; put it in quotes"
    ]
    assert read(text.replace("123", "0123", 1)).accounts["api"].access.allow == ("0123456789012345678",)
    assert read("chat: {model: 2026-01-01}").chat.model == "2026-01-01"  # no date


@pytest.mark.parametrize(
    "text",
    [
        "chat: {api_key: [hunter2-hunter2]}",
        "chat: hunter2-hunter2",
        "chat: {api_key: {a: hunter2-hunter2}}",
        "server: {api_keys: [hunter2]}",
        "server: {api_keys: hunter2-hunter2}",
        "server: {api_keys: [{key: hunter2-hunter2, namespace: A!}]}",
        "server: {api_keys: [hunter2-hunter2-hunter2, hunter2-hunter2-hunter2]}",
        "server: {host: {api_keys: [hunter2-hunter2]}}",
        "accounts: {strict: {token: hunter2-hunter2, x: 1}}",
        "accounts: {strict: {token: [hunter2]}}",
    ],
)
def test_secrets_are_not_shown_in_faults(faults: Faults, text: str) -> None:
    found = faults(text)
    assert found
    assert "hunter2" not in "".join(found)


def test_a_file_that_cannot_be_read_is_told(tmp_path: Path) -> None:
    for path, said in ((tmp_path / "none.yaml", "does not exist; `chatgpt-ms init`"), (tmp_path, "is not a file")):
        with pytest.raises(ConfigError, match=said):
            load(path, {}, find_spec=find_spec)
    big = tmp_path / "big.yaml"
    big.write_bytes(b"#" * 1_000_001)
    with pytest.raises(ConfigError, match="larger than 1000000 bytes"):
        load(big, {}, find_spec=find_spec)


# ---- the server ----


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.1.5", "gateway.internal", "127.evil.example"])
def test_an_address_that_others_reach_needs_a_key(faults: Faults, read: Read, host: str) -> None:
    text = f"server: {{host: '{host}', api_keys: []}}\n"
    found = faults(text)

    assert len(found) == 1
    assert f"host {host!r} can be reached from other machines" in found[0]
    assert "put one into server.api_keys" in found[0]
    assert "keys create" in found[0]
    config = read(text.replace("[]", "[${KEY}]"), {"KEY": "0123456789abcdef"})
    assert not config.server.is_loopback


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "::1", "[::1]", "127.0.0.2"])
def test_an_address_of_this_machine_needs_none(read: Read, host: str) -> None:
    server = read(f"server: {{host: '{host}'}}").server
    assert server.is_loopback
    assert "[" not in server.host  # it could not be bound


def test_the_exposed_host_is_told_beside_other_faults(faults: Faults) -> None:
    assert len(faults("server: {host: 0.0.0.0}\nchat: {timeout: x}\n")) == 2


def test_keys_are_long_and_stand_once(faults: Faults) -> None:
    assert "expected at least 16 characters" in faults("server: {api_keys: [short]}")[0]
    assert "stands twice" in faults(f"server: {{api_keys: [{'k' * 16}, {'k' * 16}]}}")[0]


def test_a_code_that_may_not_be_told_is_a_fault(read: Read) -> None:
    with pytest.raises(ConfigError) as caught:
        read("accounts: {api: {access: {direct: pairing, refusals: silent}}}")
    (fault,) = caught.value.faults
    assert "accounts.api.access: direct: pairing tells people a code" in fault
    assert "write refusals: notice, or direct: allowlist" in fault


@pytest.mark.parametrize("id", ["''", "' local/eve'", "'*'", "'<@U0EVE>'", '"a\\tb"'])
@pytest.mark.parametrize("key", ["allow", "always", "admins"])
def test_an_id_that_would_match_nobody_is_a_fault(faults: Faults, key: str, id: str) -> None:
    (fault,) = faults(f"accounts: {{api: {{access: {{{key}: [local/bob, {id}]}}}}}}")
    assert f"accounts.api.access.{key}[1]: got " in fault
    assert "expected an id, just as `/whoami` shows it" in fault


@pytest.mark.parametrize("name", ["default", "Default", "默认"])
def test_the_word_that_leaves_a_persona_is_the_name_of_none(faults: Faults, name: str) -> None:
    (fault,) = faults(f"chat: {{personas: {{{name}: Be brief.}}}}")
    assert f"chat.personas.{name}: got {name!r}, expected another name" in fault


# ---- reload ----


@pytest.mark.parametrize(
    ("change", "now", "later"),
    [
        ("", (), ()),
        ("chat: {system_prompt: Hi, model: m, fallback_models: [a]}", ("chat.model", "chat.fallback_models", "chat.system_prompt"), ()),
        ("chat: {model: m, timeout: 5s, local: {threads: 1}}", ("chat.model",), ("chat.timeout", "chat.local.threads")),
        ("limits: {queued: 3}\nsessions: {busy: merge}", ("sessions.busy", "limits.queued"), ()),
        ("server: {port: 1}\nlog: {level: debug}", (), ("server.port", "log.level")),
        ("accounts: {web: off, room: {token: aaaa, app_id: b}}", (), ("accounts.room", "accounts.web")),
        ("accounts: {api: {stream: false}}", (), ("accounts.api.stream",)),
        ("accounts: {api: {access: {allow: [a]}, budget: {tokens_per_day: 9}}}", ("accounts.api.access.allow", "accounts.api.budget.tokens_per_day"), ()),
        ("accounts: {api: {access: {channels: off}}}", ("accounts.api.access.channels",), ("accounts.api.access.channels",)),
        ("chat: {api_key: sk-other}", (), ("chat.api_key",)),
    ],
)  # fmt: skip
def test_a_reload_tells_what_takes_effect_and_what_needs_a_restart(
    read: Read, change: str, now: tuple[str, ...], later: tuple[str, ...]
) -> None:
    old, new = read(""), read(change)

    assert old.reloadable_changes(new) == (now, later)


def test_secrets_do_not_show_in_its_own_text(read: Read) -> None:
    config = read(
        f"{ROOM}\nserver: {{api_keys: [${{ROOM_TOKEN}}]}}\nchat: {{api_key: ${{ROOM_TOKEN}}}}",
        {"ROOM_TOKEN": "canary-canary-canary", "ROOM_APP": "a"},
    )

    assert "canary" not in repr(config)
    assert "canary" not in config.model_dump_json()
    assert list(config.secrets()) == ["canary-canary-canary"] * 3


# ---- quantities ----


@pytest.mark.parametrize(
    ("written", "seconds"),
    [("120s", 120), ("24h", 86400), ("15m", 900), ("30d", 2_592_000), ("500ms", 0.5), (90, 90), (1.5, 1.5), ("1.5h", 5400),
     ("45", 45), (" 2 s ", 2), (0, 0)],
)  # fmt: skip
def test_durations_are_read_as_people_write_them(written: Any, seconds: float) -> None:
    assert parse_duration(written) == timedelta(seconds=seconds)


@pytest.mark.parametrize(
    "written", ["", "s", "1w", "-1s", "1h30m", "ten", None, True, [], "1e9d", "9" * 400 + "d", float("nan")]
)
def test_what_is_no_duration_is_refused(written: Any) -> None:
    with pytest.raises(ValueError, match="expected a duration"):
        parse_duration(written)


@given(st.integers(0, 10**12))
def test_a_duration_is_read_back_as_it_was_written(milliseconds: int) -> None:
    duration = timedelta(milliseconds=milliseconds)

    assert parse_duration(write_duration(duration)) == duration


@pytest.mark.parametrize(
    ("written", "size"),
    [("1MB", 10**6), ("64kb", 64000), ("10MiB", 10 * 2**20), (5, 5), ("1.5 MB", 1_500_000), ("7B", 7)],
)
def test_sizes_are_read_as_people_write_them(written: Any, size: int) -> None:
    assert parse_size(written) == size


@pytest.mark.parametrize("written", ["", "MB", "1TB", "-1", None, True, 1.5])
def test_what_is_no_size_is_refused(written: Any) -> None:
    with pytest.raises(ValueError, match="expected a size"):
        parse_size(written)


# ---- any text ----

_KEYS = st.sampled_from(
    ["chat", "server", "accounts", "api", "room", "model", "timeout", "host", "api_keys", "access", "x"]
)
_VALUES = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.text(max_size=8),
    st.sampled_from(["${X}", "${", "file:/x", "off"]),
)
_TREES = st.recursive(
    _VALUES, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_KEYS, inner, max_size=4), max_leaves=12
)


@given(st.one_of(st.text(max_size=60), st.dictionaries(_KEYS, _TREES, max_size=5).map(repr)))
def test_any_text_is_read_or_refused_in_words(text: str) -> None:
    """Python's `repr` of dictionaries is nearly YAML, and goes wrong in many ways."""
    found = document.read(text)

    assert isinstance(found.data, dict)
    assert all(re.search(r"\w", str(fault)) for fault in found.faults)


@given(st.dictionaries(_KEYS, _TREES, max_size=5))
def test_any_data_is_a_configuration_or_has_faults(data: dict[str, Any]) -> None:
    source = document.Document(data=data)
    with suppress(ConfigError):
        assert isinstance(_Reading("", source, Path(), find_spec).config({}), Config)


def test_money_can_be_limited_only_where_every_model_has_a_price(read: Read, faults: Callable[..., list[str]]) -> None:
    text = """
chat:
  api_key: sk-test-0123456789
  model: gpt-5-mini-2025-08-07
  fallback_models: [gpt-5, my-own]
  models: [other/one]
sessions: {summary_model: cheap}
accounts:
  web: {budget: {money_per_month: 10}}
"""
    lines = faults(text)
    assert [line.split(": ")[1] for line in lines] == [
        "chat.fallback_models[1]",
        "chat.models[0]",
        "sessions.summary_model",
    ]
    assert "'my-own' has no price, so accounts.web.budget.money_per_month cannot count" in lines[0]
    assert "chat.prices: {my-own: {input: 1.25, output: 10}}" in lines[0]
    priced = text.replace(
        "chat:\n",
        "chat:\n  prices: {my-own: {input: 1, output: 2}, other/one: {input: 0, output: 0}, cheap: {input: 1, output: 1}}\n",
    )
    assert read(priced).accounts["web"].budget.money_per_month == 10
    assert read(text.replace("{money_per_month: 10}", "{tokens_per_day: 10}")).chat.models == ("other/one",)
