"""The HTTP API as a platform: a request is a message, its response the way back."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Iterable
from datetime import timedelta
from types import TracebackType
from typing import NamedTuple

import structlog
from aiohttp import web
from pydantic import Field

from adapters.api import chat
from adapters.api.answers import Answers, ApiReply
from adapters.api.completions import Completions
from adapters.api.faults import Refusal, Shape, json_response
from adapters.api.headers import authenticate, check_origin
from adapters.api.intake import Intake
from adapters.api.openapi import document
from adapters.api.streams import ClientGone
from core.account import AccountConfig
from core.adapter import Adapter, AdapterSpec, AsksLeave, Failure, FailureCode, Hosted, Inbox, ReplyChannel, ServesHttp
from core.host import Host
from core.messages import AccountId, InboundMessage, ReplyAddress
from core.quantities import Duration

LOOK_INTERVAL = 1.0
"""Seconds between two looks into the journal for answers that came another way (another node, a merged turn)."""
LOOK_AT_MOST = 200
"""Answers looked for each time."""

_Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
log = structlog.get_logger(__name__)


class Config(AccountConfig):
    """`accounts.api`."""

    IDS = "ids are NAMESPACE/USER, as programs name people, such as local/alice"
    ID = re.compile(r"[^/]+/.*")

    timeout: Duration = Field(
        timedelta(seconds=180),
        gt=timedelta(0),
        le=timedelta(hours=1),
        description="How long a request may wait for its answer; the answer is kept anyway.",
    )


class _Hosting(NamedTuple):
    """What there is once the gateway has introduced itself."""

    host: Host
    intake: Intake
    completions: Completions


class ApiAdapter(Adapter, AsksLeave, ServesHttp, Hosted):
    """Serves the API. Requests are answered with 503 while it does not run."""

    def __init__(self, account: AccountId, config: Config) -> None:
        self._account = account
        self._config = config
        self._answers = Answers()
        self._hosting: _Hosting | None = None
        self._may: Callable[[InboundMessage], bool] = lambda _: False

    def ask_leave(self, may: Callable[[InboundMessage], bool]) -> None:
        self._may = may

    def host(self, host: Host) -> None:
        timeout = self._config.timeout.total_seconds()
        intake = Intake(self._account, host, self._answers, timeout=timeout)
        completions = Completions(self._account, host, intake, may=self._leave, timeout=timeout)
        self._hosting = _Hosting(host, intake, completions)

    def _leave(self, message: InboundMessage) -> bool:
        return self._may(message)  # whichever of `host` and `ask_leave` came first

    async def run(self, inbox: Inbox) -> None:
        host, intake, _ = self._hosted()
        intake.inbox = inbox
        try:
            while True:
                await host.clock.sleep(LOOK_INTERVAL)
                for event, answer in self._answers.unsettled(LOOK_AT_MOST):
                    await intake.settle_from_journal(event, answer)
        finally:
            intake.inbox = None

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._answers.fail_all(
            Failure(
                code=FailureCode.OVERLOADED,
                text="The gateway is stopping; the answer will be kept.",
                id="",
                retry_after=5,
            )
        )

    def reply(self, address: ReplyAddress) -> ReplyChannel:
        return self._answers.reply(address)

    def routes(self) -> Iterable[web.AbstractRouteDef]:
        ours, openai = Shape.OURS, Shape.OPENAI
        return [
            web.post("/chat", self._guarded(self._chat, ours)),
            web.route("*", "/chat", self._guarded(_not_this_method("POST"), ours)),
            web.post("/chat-stream", self._guarded(self._chat_stream, ours)),
            web.route("*", "/chat-stream", self._guarded(_not_this_method("POST"), ours)),
            web.post("/v1/chat/completions", self._guarded(self._complete, openai)),
            web.route("*", "/v1/chat/completions", self._guarded(_not_this_method("POST"), openai)),
            web.get("/v1/models", self._guarded(self._models, openai), allow_head=False),
            web.route("*", "/v1/models", self._guarded(_not_this_method("GET"), openai)),
            web.get("/v1/models/{model:.+}", self._guarded(self._model, openai), allow_head=False),
            web.route("*", "/v1/models/{model:.+}", self._guarded(_not_this_method("GET"), openai)),
            web.route("*", "/v1/{rest:.*}", self._guarded(_nothing_here, openai)),
            web.get("/openapi.json", self._guarded(self._openapi, ours), allow_head=False),
            web.route("*", "/openapi.json", self._guarded(_not_this_method("GET"), ours)),
        ]

    async def _chat(self, request: web.Request) -> web.StreamResponse:
        host, intake, _ = self._hosted()
        return await chat.chat(request, authenticate(request, host), intake)

    async def _chat_stream(self, request: web.Request) -> web.StreamResponse:
        host, intake, _ = self._hosted()
        return await chat.chat_stream(request, authenticate(request, host), intake)

    async def _complete(self, request: web.Request) -> web.StreamResponse:
        host, _, completions = self._hosted()
        return await completions.complete(request, authenticate(request, host))

    async def _models(self, request: web.Request) -> web.StreamResponse:
        host, _, completions = self._hosted()
        authenticate(request, host)
        return completions.models()

    async def _model(self, request: web.Request) -> web.StreamResponse:
        host, _, completions = self._hosted()
        authenticate(request, host)
        return completions.model(request.match_info["model"])

    async def _openapi(self, request: web.Request) -> web.StreamResponse:  # noqa: ARG002 - a handler
        return json_response(document())

    def _hosted(self) -> _Hosting:
        if self._hosting is None:
            raise RuntimeError("host() must be called before the adapter is entered")
        return self._hosting

    def _guarded(self, handler: _Handler, shape: Shape) -> _Handler:
        """`handler`, with every error turned into JSON."""

        async def guarded(request: web.Request) -> web.StreamResponse:
            try:
                check_origin(request)
                return await handler(request)
            except Refusal as refusal:
                log.debug("request refused", path=request.path, status=refusal.status, id=refusal.id, why=refusal.code)
                return refusal.response(shape)
            except ClientGone:
                log.debug("client gone", path=request.path)
                return web.Response(status=499)  # nginx's number for it; nobody reads this
            except Exception:
                fault = Refusal(500, "internal", "Something went wrong inside the gateway.")
                log.exception("request failed", path=request.path, id=fault.id)
                return fault.response(shape)

        return guarded


def _not_this_method(allowed: str) -> _Handler:
    async def refuse(request: web.Request) -> web.StreamResponse:
        raise Refusal(405, "method_not_allowed", f"{request.path} takes {allowed} only.", headers={"Allow": allowed})

    return refuse


async def _nothing_here(request: web.Request) -> web.StreamResponse:
    raise Refusal(404, "not_found", f"There is nothing at {request.path[:200]!r}.")


SPEC = AdapterSpec("api", Config, ApiAdapter, reply=ApiReply)
