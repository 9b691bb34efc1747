"""Which proxy a connection takes."""

from __future__ import annotations

import pytest
from yarl import URL

from core.errors import ConfigError
from core.proxy import proxy_for

API = URL("https://api.example.com/v1")


def test_without_any_there_is_none() -> None:
    assert proxy_for(API, None) is None


def test_the_environment_is_followed_by_scheme(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTPS_PROXY", "http://secure:1")
    monkeypatch.setenv("http_proxy", "plain:2")
    assert proxy_for(API, None) == URL("http://secure:1")
    assert proxy_for(URL("http://api.example.com"), None) == URL("http://plain:2")


@pytest.mark.parametrize(
    "excluded", ["api.example.com", "example.com", ".example.com", "*", "x.org, api.example.com:443"]
)
def test_no_proxy_is_honoured(monkeypatch: pytest.MonkeyPatch, excluded: str) -> None:
    monkeypatch.setenv("HTTPS_PROXY", "http://proxy:1")
    monkeypatch.setenv("NO_PROXY", "example.org")
    assert proxy_for(API, None) is not None
    monkeypatch.setenv("NO_PROXY", excluded)
    assert proxy_for(API, None) is None


def test_a_configured_one_wins(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTPS_PROXY", "http://proxy:1")
    monkeypatch.setenv("NO_PROXY", "*")
    assert proxy_for(API, "http://mine:3") == URL("http://mine:3")


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1", "127.1.2.3", "[::1]", "model.localhost"])
def test_this_machine_is_never_reached_through_a_proxy(monkeypatch: pytest.MonkeyPatch, host: str) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://proxy:1")
    assert proxy_for(URL(f"http://{host}:8080/v1"), "http://mine:3") is None
    assert proxy_for(URL("http://localhost.example.com/v1"), "http://mine:3") == URL("http://mine:3")


def test_a_proxy_of_another_kind_is_named_without_its_password(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ConfigError, match=r"^chat\.proxy: ") as caught:
        proxy_for(API, "socks5://me:secret@proxy:1", setting="chat.proxy")
    assert "secret" not in str(caught.value)
    monkeypatch.setenv("HTTPS_PROXY", "socks5://proxy:1")
    with pytest.raises(ConfigError, match=r"^HTTPS_PROXY: "):
        proxy_for(API, None)
