"""What the HTTP API says of itself agrees with what it does."""

from __future__ import annotations

import json
import re
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from adapters.api import SPEC, ApiAdapter, ApiReply, Config, parse_message
from adapters.api.bodies import ChatBody, CompletionBody, is_visible
from adapters.api.faults import STATUS_OF, Refusal, Shape, encode
from adapters.api.intake import Question, user_id
from adapters.api.openapi import document
from core.adapter import FailureCode
from core.clock import SystemClock
from core.messages import AccountId

NOW = SystemClock().now()


def test_every_route_is_documented_and_every_documented_route_exists() -> None:
    adapter = ApiAdapter(AccountId("api"), Config())
    routes = [route for route in adapter.routes() if getattr(route, "method", "*") != "*"]
    served = {(route.path.replace(":.+}", "}"), route.method) for route in routes}  # type: ignore[attr-defined]  # RouteDef
    documented = {(path, method.upper()) for path, item in document()["paths"].items() for method in item}
    assert served == documented


def test_every_failure_has_a_status_that_is_documented() -> None:
    assert STATUS_OF.keys() == set(FailureCode)
    for path in ("/chat", "/chat-stream", "/v1/chat/completions"):
        documented = document()["paths"][path]["post"]["responses"]
        assert {str(status) for status in STATUS_OF.values()} <= documented.keys()


def test_every_reference_of_the_document_leads_somewhere() -> None:
    text = json.dumps(document())
    names = set(re.findall(r'"#/components/schemas/(\w+)"', text))
    assert names
    assert names <= document()["components"]["schemas"].keys()


def test_the_platform_is_described_by_its_spec() -> None:
    assert SPEC.platform == "api"
    assert SPEC.reply is ApiReply
    assert isinstance(SPEC.create(AccountId("api"), Config()), ApiAdapter)


@pytest.mark.parametrize("timeout", [0, -1, 3601])
def test_a_timeout_out_of_bounds_is_refused(timeout: float) -> None:
    with pytest.raises(ValueError, match="timeout"):
        Config(timeout=timedelta(seconds=timeout))


TEXT = st.text(st.characters(exclude_categories=["Cs"]), min_size=1)


@given(TEXT, TEXT, TEXT, TEXT)
def test_two_people_never_share_an_id(namespace: str, user: str, other_namespace: str, other_user: str) -> None:
    same_person = (namespace, user) == (other_namespace, other_user)
    assert (user_id(namespace, user) == user_id(other_namespace, other_user)) == same_person


@given(st.lists(st.sampled_from(["a", "b", '"', ", "]), min_size=1, max_size=3).map("".join), st.text(min_size=1))
def test_an_idempotency_key_is_scoped_to_namespace_and_user(user: str, key: str) -> None:
    def event(namespace: str, user: str) -> str:
        return parse_message(Question(namespace, user, "text", key), AccountId("api"), NOW).event

    assert event("red", user) == event("red", user)
    assert len({event("red", user), event("blue", user), event("red", f"{user}x"), event(f"red{user}", "x")}) == 4


def test_requests_without_a_key_are_messages_of_their_own() -> None:
    question = Question("local", "alice", "text")
    assert len({parse_message(question, AccountId("api"), NOW).event for _ in range(100)}) == 100


@given(st.text(st.characters(exclude_categories=["Cs"])))
def test_the_documented_pattern_of_a_message_is_the_one_that_is_checked(text: str) -> None:
    pattern = re.compile(document()["components"]["schemas"]["ChatBody"]["properties"]["message"]["pattern"])
    try:
        ChatBody(message=text, user="alice")
    except ValueError:
        accepted = False
    else:
        accepted = True
    assert accepted == bool(pattern.fullmatch(text))


@pytest.mark.parametrize(
    ("text", "visible"), [("x", True), ("。", True), ("😀", True), ("\u200b", False), (" \n\u3000", False)]
)
def test_a_text_of_invisible_characters_is_blank(text: str, visible: bool) -> None:
    assert is_visible(text) is visible


def test_only_fields_that_were_given_are_passed_on_to_the_model() -> None:
    body = CompletionBody.model_validate(
        {"messages": [{"role": "user", "content": "x"}], "max_tokens": 5.0, "seed": None, "stop": ["a"], "store": True}
    )
    assert body.options() == {"max_tokens": 5, "stop": ["a"]}


def test_an_error_has_the_shape_of_its_route() -> None:
    refusal = Refusal(400, "invalid_field", "message: must not be blank.", field="message", id="ab12")
    assert refusal.document(Shape.OURS) == {
        "error": {"code": "invalid_field", "message": "message: must not be blank.", "id": "ab12", "field": "message"}
    }
    assert refusal.document(Shape.OPENAI) == {
        "error": {
            "message": "message: must not be blank.",
            "type": "invalid_request_error",
            "param": "message",
            "code": "invalid_field",
        }
    }


@pytest.mark.parametrize(("seconds", "header"), [(0.0, "1"), (0.2, "1"), (1.0, "1"), (1.01, "2"), (59.5, "60")])
def test_retry_after_is_rounded_up_to_whole_seconds(seconds: float, header: str) -> None:
    assert Refusal(503, "x", "x", retry_after=seconds).response(Shape.OURS).headers["Retry-After"] == header


@pytest.mark.parametrize("text", ["你好", "\ud83d", "a\u2028b"])
def test_any_text_can_be_written_as_json(text: str) -> None:
    value: Any = json.loads(encode({"response": text}))
    assert value == {"response": text}


def test_readable_text_stays_readable() -> None:
    assert encode({"response": "你好"}) == '{"response":"你好"}'.encode()
