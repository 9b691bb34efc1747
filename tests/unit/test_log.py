"""What the log says, and what it must not say."""

from __future__ import annotations

import io
import json
import logging
import re
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import structlog
from hypothesis import given
from hypothesis import strategies as st

from core.markdown.grammar import parser
from gateway import log
from gateway.redaction import MASK, Redactor, register_secret


@pytest.fixture
def output() -> Iterator[io.StringIO]:
    """Where the log of a test goes; the process has its own logging back afterwards."""
    root, quiet = logging.getLogger(), logging.getLogger("aiohttp.access")
    handlers, level, quiet_level = list(root.handlers), root.level, quiet.level
    before = structlog.get_config()
    yield io.StringIO()
    structlog.configure(**before)
    root.handlers[:] = handlers
    root.setLevel(level)
    quiet.setLevel(quiet_level)
    for name in ("asyncio", "markdown_it"):
        logging.getLogger(name).setLevel(logging.NOTSET)


Records = Callable[[], list[dict[str, Any]]]


@pytest.fixture
def records(output: io.StringIO) -> Records:
    """JSON lines at INFO."""
    log.configure("info", "json", stream=output)
    return lambda: [json.loads(line) for line in output.getvalue().splitlines()]


def test_a_line_is_one_json_object(records: Records) -> None:
    structlog.get_logger().info("started", port=5000, names={"a": [1, 2.5, None, True]}, text_like="x\ny")
    (record,) = records()

    assert record.pop("timestamp").endswith("Z")
    assert record == {
        "event": "started",
        "level": "info",
        "port": 5000,
        "names": {"a": [1, 2.5, None, True]},
        "text_like": "x\ny",
    }


def test_the_conversation_and_turn_are_on_every_line_within(records: Records) -> None:
    with structlog.contextvars.bound_contextvars(conversation="room/u:1", turn=7):
        structlog.get_logger().info("inside")
        logging.getLogger("some.library").warning("it said %s", "so")
    structlog.get_logger().info("outside")
    inside, library, outside = records()

    assert (inside["conversation"], inside["turn"]) == ("room/u:1", 7)
    assert (library["conversation"], library["event"], library["logger"]) == ("room/u:1", "it said so", "some.library")
    assert library["level"] == "warning"
    assert "conversation" not in outside


def test_below_the_level_nothing_is_done(records: Records) -> None:
    class Costly:
        def __repr__(self) -> str:
            raise AssertionError("was written")

    structlog.get_logger().debug("no", value=Costly())
    logging.getLogger("some.library").debug("%r", Costly())
    structlog.get_logger().warning("yes")

    assert [record["event"] for record in records()] == ["yes"]


def test_requests_are_not_logged_one_by_one(records: Records, output: io.StringIO) -> None:
    logging.getLogger("aiohttp.access").info("GET /")
    assert records() == []
    log.configure("debug", "json", stream=output)
    logging.getLogger("aiohttp.access").info("GET /")
    assert [record["event"] for record in records()] == ["GET /"]


def test_configuring_again_replaces_what_was(records: Records) -> None:
    again = io.StringIO()
    log.configure("error", "json", stream=again)
    logging.getLogger("some.library").error("once")

    assert records() == []
    assert len(again.getvalue().splitlines()) == 1


SECRETS = [
    "sk-proj-abcdefghijklmnop1234",
    "sk-1234567890abcdef",
    "xoxb-123456789012-abcdefghij",
    "xoxe.xoxp-1-abcdefghij",
    "xapp-1-A0B1C2-1234567890-abcdef",
    "cms-abcdefghijklmnopqrstuvwxyz0123456789",
    "Bearer eyJhbGciOi.abc-def_ghi",
    "https://user:hunter2hunter2@proxy.example:3128/x",
    "wss://link.example/?ticket=0123456789abcdef&app=A1",
    "/link ABCD2345",
    "your code is ABCD2345, for one hour",
    "Your code: `ABCD2345`.",
]


def hidden(secret: str) -> str:
    """The part of an example that must not be seen."""
    if found := re.search("0123456789abcdef&|ABCD2345", secret):
        return found[0]
    return secret.removeprefix("Bearer ").removeprefix("https://").partition("@")[0]


@pytest.mark.parametrize("secret", SECRETS)
def test_what_looks_like_a_secret_is_masked_wherever_it_is(records: Records, output: io.StringIO, secret: str) -> None:
    class Holder:
        def __repr__(self) -> str:
            return f"<Holder {secret}>"

    logger = structlog.get_logger()
    logger.info(f"it is {secret}.", plain=secret, nested={"a": [{"b": (secret, {secret})}], secret: 1})
    logger.info("holder", value=Holder(), deep=[[[[[[[[[[secret]]]]]]]]]], raw=secret.encode(), line=f"a\n{secret}\tb")
    logging.getLogger("some.library").warning("said %s", secret, extra={"more": secret})
    with structlog.contextvars.bound_contextvars(where=secret):
        logger.info("context")

    assert len(records()) == 4
    assert hidden(secret) not in output.getvalue()
    assert MASK in output.getvalue()


@pytest.mark.parametrize("format", ["json", "pretty"])
def test_tracebacks_are_kept_and_masked(output: io.StringIO, format: log.Format) -> None:
    log.configure("info", format, stream=output)
    register_secret("open sesame, please")

    def fail(password: str) -> None:
        try:
            raise ValueError(f"no entry with {password}")
        except ValueError as error:
            raise RuntimeError("sk-abcdefghijklmnop1234") from error

    for say in (structlog.get_logger().exception, logging.getLogger("some.library").exception):
        try:
            fail("open sesame, please")
        except RuntimeError:
            say("it failed")
    written = output.getvalue()

    assert written.count("it failed") == 2
    assert written.count("in fail") >= 2
    assert written.count("ValueError: no entry with [redacted]") == 2
    assert written.count("RuntimeError: [redacted]") == 2
    assert "sesame" not in written
    assert "sk-abc" not in written


@pytest.mark.parametrize(
    "text",
    [
        "task-abcdefghijklmnopqrstuvwxyz",
        "the bearer of news",
        "https://example.com/a@b",
        "https://example.com:8080/path?x=a@b.c",
        "mail me@example.com",
        "sk-short",
        "risk-abcdefghijklmnopqrst",
        "disk-1234567890123456",
        "https://example.com/?page=1234567890&monkey=abcdefgh",
        "/link yes",
    ],
)
def test_what_only_resembles_a_secret_is_left(text: str) -> None:
    assert Redactor().text(text) == text


@pytest.mark.parametrize("text", ["您的配对码是 ABCD2345，一小时内有效", "您的关联码：`ABCD2345`。"])
def test_codes_are_masked_in_every_language_also_as_json(text: str) -> None:
    for written in (text, json.dumps(text)):
        assert MASK in Redactor().text(written)
        assert "ABCD2345" not in Redactor().text(written)


def test_known_secrets_are_masked_in_every_spelling() -> None:
    redactor = Redactor()
    redactor.register('pass/word "with" ümlaut')
    redactor.register("pass/word")
    redactor.register("tiny")

    assert redactor.text('a pass/word "with" ümlaut b') == f"a {MASK} b"
    assert redactor.text("?k=pass%2Fword%20%22with%22%20%C3%BCmlaut") == f"?k={MASK}"
    assert redactor.text(json.dumps({"k": 'pass/word "with" ümlaut'})) == f'{{"k": "{MASK}"}}'
    assert redactor.text("pass/word tiny") == f"{MASK} tiny"


@given(
    st.text(min_size=6, max_size=30).filter(lambda text: text.strip("\n") and text not in MASK),
    st.text(max_size=20),
    st.text(max_size=20),
)
def test_no_known_secret_survives(secret: str, before: str, after: str) -> None:
    redactor = Redactor()
    redactor.register(secret)
    masked = redactor.value({"x": [before + secret + after], "k " + secret: secret})

    for text in (masked["x"][0], *masked, *masked.values()):
        assert secret not in str(text).replace(MASK, "\n\n")


def test_fields_that_are_named_for_secrets_are_masked(records: Records) -> None:
    structlog.get_logger().info(
        "x", headers={"Authorization": "abc", "Accept": "*/*"}, password="p", token="", tokens=5
    )
    (record,) = records()

    assert record["headers"] == {"Authorization": MASK, "Accept": "*/*"}
    assert (record["password"], record["token"], record["tokens"]) == (MASK, "", 5)


def test_the_steps_of_the_parser_do_not_drown_the_messages_at_debug(records: Records, output: io.StringIO) -> None:
    log.configure("debug", "json", stream=output)
    parser().parse("- a list\n\nand *words*")
    structlog.get_logger().debug("accepted")
    (record,) = records()

    assert record["event"] == "accepted"


def test_what_people_write_is_only_told_at_debug(records: Records, output: io.StringIO) -> None:
    structlog.get_logger().info("accepted", text="my diary", answer="dear diary")
    log.configure("debug", "json", stream=output)
    structlog.get_logger().debug("accepted", text="my diary")
    above, at_debug = records()

    assert (above["text"], above["answer"]) == ("<8 characters>", "<10 characters>")
    assert at_debug["text"] == "my diary"


def test_a_terminal_gets_colours_and_a_file_gets_json() -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    before = structlog.get_config()
    try:
        terminal, file = Terminal(), io.StringIO()
        log.configure("info", "auto", stream=terminal)
        structlog.get_logger().info("started", port=5000)
        log.configure("info", "auto", stream=file)
        structlog.get_logger().info("started", port=5000)
    finally:
        structlog.configure(**before)
        logging.getLogger().handlers[:] = [
            handler for handler in logging.getLogger().handlers if not isinstance(handler, log._StandardLibrary)
        ]
    assert "\x1b[" in terminal.getvalue()
    assert "started" in terminal.getvalue()
    assert json.loads(file.getvalue())["port"] == 5000


def test_a_terminal_is_not_steered_by_what_others_wrote(output: io.StringIO) -> None:
    log.configure("info", "pretty", stream=output)
    structlog.get_logger().info("from \x1b[2Jhere\x9b", name="\x1b]0;title\x07")
    logging.getLogger("some.library").warning("a\x1b[31mb\r")

    assert "\x1b" not in output.getvalue()
    assert "\x9b" not in output.getvalue()
    assert "\r" not in output.getvalue()
    assert "\\x1b[2Jhere" in output.getvalue()


def test_a_reader_that_went_away_stops_nothing(output: io.StringIO) -> None:
    log.configure("info", "auto", stream=output)
    output.close()
    structlog.get_logger().info("nobody hears it")
    log.configure("info", "auto", stream=output)
    logging.getLogger("some.library").warning("nor this")


def test_a_broken_call_of_a_library_stops_nothing(
    records: Records, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(logging, "raiseExceptions", False)
    logging.getLogger("some.library").warning("%d", "no number")
    logging.getLogger("some.library").warning("after")

    assert [record["event"] for record in records()] == ["after"]
