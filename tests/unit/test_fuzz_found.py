"""What garbage once broke, each by itself. tests/scenario/test_fuzz_links.py and test_fuzz_payloads.py found it."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from adapters.feishu.endpoint import ping_interval
from adapters.wechat.reception import Reception
from adapters.weixin.adapter import _held
from core.adapter import Receipt
from core.clock import SystemClock
from core.errors import ConfigError
from core.journal import Quota
from core.messages import AccountId, Belongs, ChannelId, ConversationKey, Scope, ThreadId, UserId
from core.storage.codec import decode, encode
from core.storage.sqlite import SqliteStore
from core.untrusted import json_of
from gateway.config import load
from tests.simulators.weixin import SimulatedWeixin


@pytest.mark.parametrize("text", ["[" * 100_000, '{"a":' * 100_000, b"[" * 100_000, "9" * 5_000, b"\xff", "", "[1,]"])
def test_json_that_cannot_be_read_is_a_value_error_and_nothing_else(text: str | bytes) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 - that it is one is all that is promised
        json_of(text)


@pytest.mark.parametrize("told", [10**400, 10**18])
def test_a_time_that_no_clock_has_is_the_longest(told: int) -> None:
    """Python's numbers of JSON have no bounds, its floats do."""
    assert _held(told, 35.0) == 60.0
    assert ping_interval({"PingInterval": told}) == ping_interval({"PingInterval": 1e300})


@pytest.mark.parametrize("scope", list(Scope))
async def test_an_id_with_half_a_surrogate_pair_is_stored_like_any_other(scope: Scope, tmp_path: Path) -> None:
    """A message that cannot be stored comes again and again where the platform keeps a cursor; nothing gets past it."""
    sample = next(filter(None, map(SimulatedWeixin().parse, SimulatedWeixin().payloads())))
    message = dataclasses.replace(
        sample,
        sender=dataclasses.replace(sample.sender, id=UserId("\ud800"), display_name="\udfff"),
        channel=ChannelId("c\udc00"),
        thread=ThreadId("\ud800\ud800"),
        text="half a \ud83d",
    )
    key = ConversationKey.of(message, scope)
    async with SqliteStore(tmp_path / "data" / "test.db", clock=SystemClock()) as store:
        for receipt in (Receipt.ACCEPTED, Receipt.DUPLICATE):
            accepted = await store.accept(message, key, Quota())
            assert accepted.receipt is receipt
        turn = await store.begin(key, most=1, idle_after=None)
        assert turn is not None
        assert turn.rows[0].message == message


@pytest.mark.parametrize(
    ("written", "said"),
    [
        ("sessions: ${MY_TOKEN}", "sessions: got '[redacted]', expected a block of keys"),
        ("limits: {queued: 'file:./secret'}", "limits.queued: got '[redacted]', expected a whole number"),
        ("sessions: ${MY_NUMBER}", "sessions: got '1234567', expected a block of keys"),
        ('chat: {"a\\nb": 1}', r"chat.'a\nb': unknown key"),
        ('"\\e[31mchat": 1', r"'\x1b[31mchat': unknown key"),
    ],
)
def test_a_fault_of_the_configuration_is_one_line_without_secrets(tmp_path: Path, written: str, said: str) -> None:
    """A key that was put in the wrong place is shown on the terminal, and may end in a report; a line break in a name
    makes two faults of one."""
    (tmp_path / "secret").write_text("a-secret-of-a-file\n")
    file = tmp_path / "config.yaml"
    file.write_text(written)
    with pytest.raises(ConfigError) as refused:
        load(file, {"MY_TOKEN": "a-secret-of-the-environment", "MY_NUMBER": "1234567"})
    (line,) = str(refused.value).splitlines()
    assert said in line


@pytest.mark.parametrize("belongs", list(Belongs))
def test_how_somebody_belongs_is_stored_with_what_they_wrote(belongs: Belongs) -> None:
    sample = next(filter(None, map(SimulatedWeixin().parse, SimulatedWeixin().payloads())))
    message = dataclasses.replace(sample, sender=dataclasses.replace(sample.sender, belongs=belongs))
    assert decode(encode(message)) == message


async def test_an_id_longer_than_any_is_not_asked_for() -> None:
    """The server's refusal, which repeats it, breaks the connection; and what is unfinished is asked again after it."""
    reception = Reception(AccountId("bot"), SystemClock(), listens_in=lambda _: False)
    for id in ("x" * 1001, "", "y" * 1000):
        await reception.take(id)
    assert list(reception._unfinished) == ["y" * 1000]
