"""Keys of the HTTP API: who holds one, and who does not."""

from __future__ import annotations

from dataclasses import replace

import pytest

from core.errors import ConfigError
from core.keys import LOCAL_NAMESPACE, Caller, KeyRing, digest, new_key, proof
from tests.clock import HeldClock


def test_without_keys_everybody_on_this_machine_is_the_local_caller() -> None:
    ring = KeyRing((), required=False)
    assert ring.caller(None) == Caller(LOCAL_NAMESPACE, frozenset({"chat", "admin"}))


def test_a_public_address_needs_a_key_even_if_there_is_none() -> None:
    ring = KeyRing((), required=True)
    assert ring.caller(None) is None
    assert ring.caller("anything") is None


def test_a_configured_key_has_every_scope_in_its_namespace() -> None:
    ring = KeyRing([("secret", "team")], required=False)
    assert ring.caller("secret") == Caller("team", frozenset({"chat", "admin"}))
    assert [ring.caller(wrong) for wrong in (None, "", "Secret", "secret ")] == [None] * 4


def test_a_created_key_is_valid_until_it_is_revoked(clock: HeldClock) -> None:
    key, secret = new_key("laptop", namespace=None, scopes=("chat",), clock=clock)
    ring = KeyRing((), required=True)
    assert ring.caller(secret) is None
    ring.load([(key, digest(secret))])
    assert ring.caller(secret) == Caller(f"key-{key.id}", frozenset({"chat"}))
    ring.load([(replace(key, revoked_at=clock.now()), digest(secret))])
    assert ring.caller(secret) is None


def test_keys_are_random_and_the_secret_is_not_stored(clock: HeldClock) -> None:
    keys = [new_key("k", namespace="n", scopes=("chat",), clock=clock) for _ in range(100)]
    assert len({secret for _, secret in keys}) == 100
    assert all(secret not in repr(key) for key, secret in keys)


@pytest.mark.parametrize("namespace", ["Team", "-x", "a/b", "a b", "x" * 64, "ü"])
def test_a_bad_namespace_is_refused_with_what_would_do(clock: HeldClock, namespace: str) -> None:
    with pytest.raises(ConfigError, match="a-z 0-9"):
        new_key("k", namespace=namespace, scopes=("chat",), clock=clock)


def test_an_unknown_scope_is_refused_with_those_that_exist(clock: HeldClock) -> None:
    with pytest.raises(ConfigError, match="'root' does not exist; there are chat, admin"):
        new_key("k", namespace="n", scopes=("root",), clock=clock)


def test_a_proof_shows_the_key_for_one_purpose_and_ends_with_it(clock: HeldClock) -> None:
    key, secret = new_key("k", namespace="n", scopes=("chat",), clock=clock)
    ring = KeyRing([("other", "team")], required=True)
    ring.load([(key, digest(secret))])
    shown = proof(secret, "cookie")
    assert ring.prover(shown, "cookie") == Caller("n", frozenset({"chat"}))
    assert ring.prover(shown, "something else") is None
    assert ring.caller(shown) is None
    ring.load([])
    assert ring.prover(shown, "cookie") is None


@pytest.mark.parametrize("garbage", ["\udcff", "ключ", "\x00", "x" * 100_000])
def test_garbage_is_no_key_and_no_error(garbage: str) -> None:
    ring = KeyRing([("secret", "team")], required=True)
    assert ring.caller(garbage) is None
    assert ring.prover(garbage, "cookie") is None
