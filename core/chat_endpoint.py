"""Where the model is and how it is reached: the settings, and what is made of them once."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field

from multidict import CIMultiDict
from yarl import URL

from core.chat_failure import Redactor
from core.errors import ConfigError
from core.http_client import Target
from core.proxy import proxy_for


@dataclass(frozen=True, slots=True, kw_only=True)
class ChatSettings:
    """How ChatGPTClient works. Times are in seconds. Raises ConfigError for values that cannot work."""

    base_url: str = "https://api.openai.com/v1"
    """Of OpenAI or any server that speaks its Chat Completions. A query in it is sent with every call.

    Azure: `https://NAME.openai.azure.com/openai/deployments/DEPLOYMENT?api-version=VERSION`, or the newer
    `https://NAME.openai.azure.com/openai/v1` without a query. A base_url with `api-version` gets the key as `api-key`
    too, which Azure asks for; on Azure's own hosts only so, as in the vendor's client.
    """
    api_key: str = field(default="", repr=False)
    """May be empty for servers that ask for none."""
    model: str = "gpt-5-mini"
    fallback_models: tuple[str, ...] = ()
    """Asked in this order when a model is unavailable, limited or unknown; only before the first text."""
    connect_timeout: float = 5.0
    """For name, connection and TLS."""
    first_byte_timeout: float = 30.0
    """From the beginning of an attempt until anything of the answer has arrived, thoughts included."""
    idle_timeout: float = 30.0
    """Between two pieces of the answer."""
    timeout: float = 120.0
    """For the whole answer with all its attempts. Waiting for one of the `concurrency` places is not part of it, and
    may itself take this long."""
    retries: int = 2
    """Further attempts with one model."""
    concurrency: int = 64
    """Calls at once."""
    proxy: str | None = field(default=None, repr=False)
    """`http://…` or `https://…`, may have user and password; None: HTTP(S)_PROXY and NO_PROXY. See core/proxy.py."""
    organization: str | None = None
    """OpenAI-Organization."""
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    """Further headers of every call."""
    salt: bytes = field(default=b"", repr=False)
    """Secret that turns a person's id into the `user` of a request. Empty: the key serves, and then only those who
    know the key could link the two."""

    def __post_init__(self) -> None:
        try:
            url = URL(self.base_url)
        except ValueError:
            url = URL()
        if url.scheme not in ("http", "https") or not url.host:
            raise ConfigError(f"chat.base_url: {self.base_url!r} is no address; use one like https://api.openai.com/v1")
        if url.user or url.password:
            raise ConfigError("chat.base_url: has a user or password in it; put the key in chat.api_key")
        if url.path.rstrip("/").endswith("/chat/completions"):
            raise ConfigError(f"chat.base_url: {self.base_url!r} is one step too far; leave /chat/completions out")
        if not (self.api_key.isascii() and self.api_key.isprintable()) or " " in self.api_key:
            raise ConfigError("chat.api_key: has a space or another character that no key has; copy it again")
        if not self.model:
            raise ConfigError("chat.model: is empty; name a model of the server, such as gpt-5-mini")


class Endpoint:
    """What every call needs, made once from the settings."""

    def __init__(self, settings: ChatSettings) -> None:
        base = URL(settings.base_url)
        self.settings = settings
        proxy, headers = proxy_for(base, settings.proxy, setting="chat.proxy"), _headers(settings, base)
        try:
            self.chat = Target.of("POST", _below(base, "chat/completions"), headers, proxy)
            self.models = Target.of("GET", _below(base, "models"), headers, proxy)
        except ValueError as error:
            raise ConfigError(f"chat: {error}; a key or header must be one line") from None
        host = base.host or ""
        self.takes_safety_identifier = host == "api.openai.com" or host.endswith(".api.openai.com")
        """`user` is on its way out at OpenAI in favour of `safety_identifier` (help.openai.com, article 5428082).
        Other servers may refuse a field they do not know (Kimi does: anomalyco/opencode#20135), so only OpenAI's own
        get it, and everybody gets `user`."""
        self.unwanted: frozenset[str] = frozenset()
        """Optional fields that this server turned out not to accept."""
        passwords = [url.password for url in (proxy, _proxy_url(settings)) if url is not None and url.password]
        # A short extra header is no secret, and removing it would spoil what is left of the text.
        extra = [value for value in settings.headers.values() if len(value) >= 8]
        self.redact = Redactor([settings.api_key, *passwords, *extra])
        self._secret = hashlib.blake2b(settings.salt or settings.api_key.encode()).digest()

    def pseudonym(self, end_user: str) -> str:
        """What the server may know of a person: the same for the same one, and nothing that can be turned back."""
        person = end_user.encode("utf-8", "surrogatepass")
        return hashlib.blake2b(person, key=self._secret, digest_size=16).hexdigest()  # keyed: a MAC, and a fast one


def _below(base: URL, path: str) -> URL:
    return base.with_path(base.raw_path.rstrip("/") + "/" + path, encoded=True, keep_query=True)


def _proxy_url(settings: ChatSettings) -> URL | None:
    try:
        return URL(settings.proxy) if settings.proxy else None
    except ValueError:
        return None


def _headers(settings: ChatSettings, base: URL) -> CIMultiDict[str]:
    headers = CIMultiDict(
        {
            "Content-Type": "application/json",
            "Accept": "text/event-stream, application/json",
            "Accept-Encoding": "identity",  # a compressed stream comes later, and costs more than it saves
            "User-Agent": "chatgpt-ms",
        }
    )
    if settings.api_key:
        azure = "api-version" in base.query
        azure_host = (base.host or "").endswith((".openai.azure.com", ".cognitiveservices.azure.com"))
        if azure:
            headers["api-key"] = settings.api_key
        # On its own hosts Azure may take the bearer token for one of Entra, so the vendor's client (openai/lib/azure.py)
        # sends `api-key` alone; gateways in front of it may want both (bcgov/mds#3916).
        if not (azure and azure_host):
            headers["Authorization"] = f"Bearer {settings.api_key}"
    if settings.organization:
        headers["OpenAI-Organization"] = settings.organization
    headers.update(settings.headers)
    return headers
