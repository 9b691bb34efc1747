"""Structured logs on standard error: readable on a terminal, one JSON object a line elsewhere.

`structlog` loggers and those of the standard library (aiohttp, asyncio) leave through the same steps, so both carry
the context (`conversation`, `turn`: bind it with `structlog.contextvars.bound_contextvars`) and both are redacted.
What people write is only logged at DEBUG: above it, the fields named in `BODIES` are replaced by their length.
"""

from __future__ import annotations

import json
import logging
import sys
from collections.abc import Callable
from typing import Any, Literal, TextIO

import structlog
from structlog.typing import EventDict, Processor, WrappedLogger

from gateway.redaction import redact_value, register_secret

__all__ = ["BODIES", "Format", "Level", "configure", "register_secret"]

Level = Literal["debug", "info", "warning", "error"]
Format = Literal["auto", "pretty", "json"]

BODIES = frozenset({"answer", "body", "content", "prompt", "text"})
"""Fields that hold what people or the model wrote."""

_CONTROL = {code: f"\\x{code:02x}" for code in (*range(0x20), 0x7F, *range(0x80, 0xA0)) if code not in (0x09, 0x0A)}
"""An escape sequence in a logged text must not reach the terminal."""

_QUIET = {"aiohttp.access": logging.WARNING, "asyncio": logging.WARNING}
"""Loggers that say too much at INFO; `level: debug` lets them."""

_SILENT = "markdown_it"
"""The parser tells each of its steps at DEBUG, hundreds for one answer, in which the messages would drown."""


class _Lines:
    """Where rendered lines go. A reader that went away must not stop the gateway."""

    def __init__(self, stream: TextIO | None) -> None:
        self._stream = stream

    def msg(self, line: str) -> None:
        stream = self._stream or sys.stderr
        try:
            stream.write(line + "\n")  # one call, so that lines of two threads do not mix
            stream.flush()
        except (OSError, ValueError):
            return

    debug = info = warning = error = critical = msg


class _StandardLibrary(logging.Handler):
    """Sends records of the standard library through the same steps as everything else."""

    def __init__(self, steps: list[Processor], lines: _Lines) -> None:
        super().__init__()
        self._steps = steps
        self._lines = lines

    def emit(self, record: logging.LogRecord) -> None:
        try:
            event: Any = {"event": record.getMessage(), "logger": record.name}
            if record.exc_info:
                event["exc_info"] = record.exc_info
            for step in self._steps:
                event = step(None, record.levelname.lower(), event)
            self._lines.msg(event)
        except Exception:  # noqa: BLE001 - a broken log call must not break its caller
            self.handleError(record)


def _hide_bodies(_: WrappedLogger, method: str, event: EventDict) -> EventDict:
    if method != "debug":
        for name in BODIES & event.keys():
            if isinstance(event[name], str):
                event[name] = f"<{len(event[name])} characters>"
    return event


def _redact(_: WrappedLogger, __: str, event: EventDict) -> EventDict:
    masked: EventDict = redact_value(event)
    return masked


def _escape_controls(_: WrappedLogger, __: str, event: EventDict) -> EventDict:
    return {key: value.translate(_CONTROL) if isinstance(value, str) else value for key, value in event.items()}


def _to_json(event: EventDict, **_: Any) -> str:
    return json.dumps(event, ensure_ascii=False, default=repr)


def _steps(*, pretty: bool, colors: bool) -> list[Processor]:
    common: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        _hide_bodies,
        # tracebacks become text before redaction; their frames' variables are never written
        structlog.processors.format_exc_info,
        _redact,
    ]
    if not pretty:
        return [
            *common,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.JSONRenderer(serializer=_to_json),
        ]
    return [
        *common,
        _escape_controls,
        structlog.processors.TimeStamper(fmt="%H:%M:%S", utc=False),
        structlog.dev.ConsoleRenderer(colors=colors, exception_formatter=structlog.dev.plain_traceback),
    ]


def configure(level: Level = "info", format: Format = "auto", *, stream: TextIO | None = None) -> None:
    """Set up logging for the whole process; may be called again. `stream` is standard error unless given."""
    number = logging.getLevelNamesMapping()[level.upper()]
    terminal = _is_terminal(stream or sys.stderr)
    steps = _steps(pretty=format == "pretty" or (format == "auto" and terminal), colors=terminal)
    lines = _Lines(stream)
    factory: Callable[..., _Lines] = lambda *_: lines  # noqa: E731 - the name says what it is for
    structlog.configure(
        processors=steps,
        # a call below the level is a method that returns: no formatting, no context
        wrapper_class=structlog.make_filtering_bound_logger(number),
        logger_factory=factory,
        cache_logger_on_first_use=True,
    )
    root = logging.getLogger()
    for handler in [handler for handler in root.handlers if isinstance(handler, _StandardLibrary)]:
        root.removeHandler(handler)
    root.addHandler(_StandardLibrary(steps, lines))
    root.setLevel(number)
    for name, quiet in _QUIET.items():
        logging.getLogger(name).setLevel(logging.DEBUG if level == "debug" else max(quiet, number))
    logging.getLogger(_SILENT).setLevel(max(logging.INFO, number))


def _is_terminal(stream: TextIO) -> bool:
    try:
        return stream.isatty()
    except ValueError:  # closed
        return False
