"""Whatever a platform sends, `parse_message` gives a sound message or None, and does so soon.

Payloads are altered as JSON text and read as the adapters' links read it. CHATGPT_MS_EXAMPLES sets how many there are for
each platform.
"""

from __future__ import annotations

import copy
import json
import re
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from random import Random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from adapters.dingtalk.address import Address as DingTalkAddress
from adapters.dingtalk.parse import over_quota
from adapters.discord.address import Address as DiscordAddress
from adapters.feishu.address import Address as FeishuAddress
from adapters.feishu.identity import Identity
from adapters.feishu.parse import event_of, original_of, quoted_by
from adapters.slack.address import Address as SlackAddress
from adapters.slack.parse import ids_of
from adapters.web.protocol import ClientMessage, client_message
from adapters.wechat.address import Address as WechatAddress
from adapters.weixin.address import Address as WeixinAddress
from core.messages import InboundMessage, ReplyAddress
from tests.contract.platform import SimulatedPlatform
from tests.fuzzing import EXAMPLES, Mutator, Twice, check_message, examples, figure, places, text_of
from tests.simulators.dingtalk import SimulatedDingTalk
from tests.simulators.discord import DiscordPlatform
from tests.simulators.feishu import SimulatedFeishu
from tests.simulators.slack import SimulatedSlack
from tests.simulators.wechat import SimulatedWechat
from tests.simulators.weixin import SimulatedWeixin

Parse = Callable[[Any], InboundMessage | None]


@dataclass(frozen=True)
class Door:
    """How a platform's payloads get in."""

    platform: Callable[[], SimulatedPlatform]
    load: Callable[[ReplyAddress], object]
    """Reads the way back."""
    beside: Callable[[Any], object] = bool
    """What else is asked of a payload."""


def _feishu_history(payload: Any) -> object:
    """The same altered payload as messages of a history."""
    identity = Identity(open_id="ou_1", name="ChatGPT", app_id="cli_1")
    event = payload.get("event") if isinstance(payload, dict) else None
    item = event.get("message") if isinstance(event, dict) else None
    items = [item] * 2 if isinstance(item, dict) else []
    for each in items:
        event_of(each, "group")
    return quoted_by(payload), original_of(list(items), identity)


DOORS = {
    "slack": Door(SimulatedSlack, SlackAddress.load, ids_of),
    "discord": Door(DiscordPlatform, DiscordAddress.load),
    "feishu": Door(SimulatedFeishu, FeishuAddress.load, _feishu_history),
    "dingtalk": Door(lambda: SimulatedDingTalk(card=True), DingTalkAddress.load, over_quota),
    "wechat": Door(SimulatedWechat, WechatAddress.load),
    "weixin": Door(SimulatedWeixin, WeixinAddress.load),
}


def assail(door: Door, parse: Parse, samples: list[Any], random: Random, counted: Counter[str]) -> None:
    """One altered payload goes in."""
    text = text_of(Mutator(random).altered(samples))
    try:
        payload = json.loads(text)
    except ValueError:  # a number of too many digits
        counted["no JSON"] += 1
        return
    door.beside(payload)
    message = parse(payload)
    counted["payloads"] += 1
    if message is not None:
        counted["messages"] += 1
        check_message(message)
        door.load(message.reply_to)


@pytest.mark.parametrize("name", DOORS)
def test_an_altered_payload_is_a_sound_message_or_none(name: str) -> None:
    door, counted = DOORS[name], Counter[str]()
    platform = door.platform()
    samples = list(platform.payloads())

    @examples(250)
    @given(st.randoms(use_true_random=False))
    def fire(random: Random) -> None:
        assail(door, platform.parse, samples, random, counted)

    fire()
    figure(f"payloads of {name}", counted)
    assert counted["messages"] > counted["payloads"] * 0.05
    assert counted["payloads"] > counted["messages"]


@pytest.mark.parametrize(
    ("broken", "words"),
    [
        (lambda payload: str(payload["event"]["message"]["content"]), "KeyError"),
        (lambda payload: payload["event"]["message"]["content"].strip() and None, "AttributeError"),
        (lambda payload: json.dumps(payload["header"]["create_time"] + "0"), "TypeError"),
    ],
)
def test_a_parser_that_trusts_a_payload_is_found(broken: Parse, words: str) -> None:
    """The paired negative."""
    samples = [json.loads(json.dumps(each)) for each in SimulatedFeishu().payloads() if "header" in each]
    samples = [each for each in samples if each["header"].get("event_type") == "im.message.receive_v1"]

    @examples(300)
    @given(st.randoms(use_true_random=False))
    def fire(random: Random) -> None:
        assail(Door(SimulatedFeishu, str), broken, samples, random, Counter())

    with pytest.raises(Exception) as found:  # noqa: PT011 - which of them comes first does not matter
        fire()
    assert words in repr(found.value) or type(found.value).__name__ in ("KeyError", "TypeError", "AttributeError")


@pytest.mark.parametrize("name", DOORS)
def test_nesting_as_deep_as_the_reader_takes_is_no_fault_of_the_payload(name: str) -> None:
    """What JSON of this depth is turned into text or compared with, overflows where reading it did not."""
    platform, counted = DOORS[name].platform(), Counter[str]()
    deepest = next(depth for depth in range(2_000, 0, -1) if _nested(depth) is not None)
    for payload in platform.payloads():
        for number in range(len(places(payload))):
            for less in (0, 5):
                changed = copy.deepcopy(payload)
                holder, key = places(changed)[number]
                holder[key] = _nested(deepest - less)
                _below(_FRAMES_BETWEEN, DOORS[name].beside, changed)
                message = _below(_FRAMES_BETWEEN, platform.parse, changed)
                counted["payloads"] += 1
                counted["messages"] += message is not None
    figure(f"depth {deepest} in {name}", counted)


_FRAMES_BETWEEN = 10
"""Calls between an SDK's reader and a parser."""


def _below(calls: int, function: Callable[[Any], Any], argument: Any) -> Any:
    return _below(calls - 1, function, argument) if calls else function(argument)


def _nested(depth: int) -> Any:
    try:
        return json.loads("[" * depth + "]" * depth)
    except RecursionError:
        return None


# Time

_REPEATED = (
    *("<title>", "<@", "<@U1|", "<", "&lt;", "@_user_1", "@", "@a ", " ", "\n", "\u2005", "`", "*", "_ ", "[](", "「"),
    *(
        "」\n- - - - - -\n",
        "- ",
        "：",
        "<a:b",
        "</a",
        "<at id=",
        "[{",
        '{"a":',
        "&",
        ",",
        "\u0301",
        "<#",
        "\\u",
        "<msg>",
    ),
)
_LONG = 100_000
"""Characters; a payload of a platform has a few ten thousand at most."""
_SOON = 0.25
"""Seconds of CPU; a few thousandths are normal."""


def seconds_for(parse: Parse, payload: Any) -> float:
    """CPU time of this thread."""
    began = time.thread_time()
    parse(payload)
    return time.thread_time() - began


def long_text(text: str, piece: str, chance: Random) -> str:
    """`text` with many of `piece` in its middle."""
    at = chance.randint(0, len(text))
    return text[:at] + piece * (_LONG // len(piece)) + text[at:]


@pytest.mark.parametrize("name", DOORS)
def test_a_long_text_is_read_soon(name: str) -> None:
    platform, chance = DOORS[name].platform(), Random(1)
    told = [payload for payload in platform.payloads() if platform.parse(copy.deepcopy(payload)) is not None]
    slowest = 0.0
    for _ in range(EXAMPLES or 150):
        payload = copy.deepcopy(chance.choice(told))
        texts = [(holder, key) for holder, key in places(payload) if type(holder[key]) is str]
        written = [(holder, key) for holder, key in texts if key in ("text", "content") or len(holder[key]) > 30]
        holder, key = chance.choice(written or texts)
        piece = chance.choice(_REPEATED)
        holder[key] = long_text(holder[key], piece, chance)
        seconds = seconds_for(platform.parse, payload)
        assert seconds < _SOON, f"{key!r} with {_LONG} characters of {piece!r} takes {seconds:.1f} s"
        slowest = max(slowest, seconds)
    figure(f"long texts of {name}, slowest {slowest * 1000:.0f} ms", Counter(texts=EXAMPLES or 150))


def test_a_parser_that_looks_back_for_ever_is_found() -> None:
    """The paired negative."""
    hostile = long_text("", "<title>", Random(1))[: _LONG // 3]
    pattern = re.compile("<title>(.*?)</title>", re.DOTALL)
    assert seconds_for(lambda text: pattern.search(text) and None, hostile) > _SOON


# The page's frames

_FRAMES = [
    {"type": "hello", "csrf": "token-of-the-page"},
    {"type": "open", "conversation": "conversation-1", "turns": 40},
    {"type": "send", "conversation": "conversation-1", "client_id": "question-1", "text": "Hi", "language": "zh-CN"},
    {"type": "stop", "conversation": "conversation-1"},
    {"type": "retry", "conversation": "conversation-1", "client_id": "question-2", "language": None},
    {"type": "delete", "conversation": "conversation-1"},
    {"type": "list"},
]


def test_an_altered_frame_of_the_page_is_read_or_refused() -> None:
    counted = Counter[str]()

    @examples(500)
    @given(st.randoms(use_true_random=False))
    def fire(random: Random) -> None:
        mutator = Mutator(random)
        text = text_of(mutator.altered(_FRAMES, most=2))
        data = mutator.broken(text) if random.randrange(4) == 0 else text.encode("utf-8", "surrogatepass")
        try:
            message: ClientMessage = client_message.validate_json(data)
        except ValidationError as error:
            counted["refused"] += error.error_count() > 0
            return
        counted["read"] += 1
        for value in message.model_dump().values():
            assert value is None or type(value) in (str, int)
            str(value).encode()  # no lone surrogate gets in

    fire()
    figure("frames of the page", counted)
    assert counted["read"]
    assert counted["refused"]


def test_a_name_that_stands_twice_is_written_twice() -> None:
    """Of the alterations themselves: what duplicates are is lost where an object is rebuilt."""
    doubled = Twice({"a": 1})
    doubled.again = [("a", 2)]
    assert text_of({"x": [doubled]}) == '{"x":[{"a":1,"a":2}]}'
