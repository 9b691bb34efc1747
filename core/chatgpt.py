"""ChatGPTClient: OpenAI's Chat Completions over one shared HTTP session.

One call: wait for a place (fair between people) → for each model in order → up to 1 + `retries` attempts, while its
circuit breaker lets them through → the first text has arrived, from here on nothing is tried again.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager, closing
from types import TracebackType
from typing import Any, Self

from core.backoff import full_jitter
from core.breaker import Breakers, Permit
from core.chat import ChatMessage
from core.chat_answer import Answer
from core.chat_call import RESERVED, Call
from core.chat_endpoint import ChatSettings, Endpoint
from core.chat_failure import Failed, broken, describe, refused_by_status
from core.chat_record import CallRecord, Outcome, outcome_of
from core.clock import Clock
from core.errors import ChatError, ChatMisconfigured, ChatUnavailable, ContextTooLong
from core.gate import FairGate
from core.http_client import (
    CertificateRefused,
    ConnectTimeout,
    HttpClient,
    ProxyRefused,
    Response,
    StaleConnection,
)
from core.untrusted import json_of

__all__ = ["CallRecord", "ChatGPTClient", "ChatSettings", "Outcome"]

_LONGEST_WAIT = 30.0
"""Seconds. A server that asks for more is not waited for; the caller gets `retry_after`."""
_LONGEST_WAIT_WITH_FALLBACK = 5.0
"""The same while another model could answer at once."""
_MOST_STALE = 3
"""How often a call is sent anew because the server closed a kept connection just when it was used again.

That says nothing about the server's health: it is no attempt, and the breaker is not told. llama.cpp's server closes
its connections after each stream without saying so.
"""
_ERROR_BODY = 64 * 1024
"""Bytes of an error that are read."""
_MODEL_LIST = 8 * 1024 * 1024
"""Bytes of a list of models that are read; some servers list thousands."""


class ChatGPTClient:
    """Implements core.chat.ChatClient. Entered once by the program; `settings` may be replaced while it works."""

    def __init__(
        self,
        settings: ChatSettings,
        *,
        clock: Clock,
        observe: Callable[[CallRecord], None] | None = None,
    ) -> None:
        """`observe` is told of every call when it has ended."""
        self._clock = clock
        self._http = HttpClient()
        self._entered = False
        self._observe = observe
        self._endpoint = Endpoint(settings)
        self._gate = FairGate(settings.concurrency)
        self._breakers = Breakers(clock)

    async def __aenter__(self) -> Self:
        await self._http.__aenter__()
        self._entered = True
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._entered = False
        await self._http.__aexit__(kind, error, trace)

    @property
    def settings(self) -> ChatSettings:
        """What new calls work with. Replacing it leaves calls that have begun as they are. Raises ConfigError."""
        return self._endpoint.settings

    @settings.setter
    def settings(self, settings: ChatSettings) -> None:
        before, self._endpoint = self._endpoint, Endpoint(settings)
        self._gate.size = settings.concurrency
        if (before.chat.url, before.settings.api_key) == (self._endpoint.chat.url, settings.api_key):
            self._endpoint.unwanted = before.unwanted
        else:
            self._breakers = Breakers(self._clock)  # what failed was another server, or another account

    @property
    def running(self) -> int:
        """Calls that hold a place."""
        return self._gate.running

    @property
    def waiting(self) -> int:
        """Calls that wait for a place."""
        return self._gate.waiting

    @property
    def shut_off(self) -> Sequence[str]:
        """The models whose circuit breaker is open."""
        return self._breakers.open()

    def stream(
        self,
        messages: Sequence[ChatMessage],
        *,
        end_user: str,
        model: str | None = None,
        options: Mapping[str, Any] | None = None,
    ) -> AbstractAsyncContextManager[Answer]:
        """Ask; see core.chat.ChatClient. `options` cannot replace model, messages, stream, user and the like."""
        settings = self._endpoint.settings
        models = dict.fromkeys((model or settings.model, *settings.fallback_models))
        return self._ask(messages, end_user=end_user, models=tuple(models), options=options or {})

    async def probe(self) -> None:
        """Check key and models: that they are listed, or that they answer. Raises ChatError.

        A server that lists no models, or not by the names it takes, is asked for an answer, which is cut off at its
        first text.
        """
        settings = self._endpoint.settings
        listed = await self._list_models(self._endpoint)
        for model in dict.fromkeys((settings.model, *settings.fallback_models)):
            if model not in listed:
                async with self._ask([ChatMessage("user", "Hello")], end_user="probe", models=(model,), options={}):
                    pass

    @asynccontextmanager
    async def _ask(
        self, messages: Sequence[ChatMessage], *, end_user: str, models: Sequence[str], options: Mapping[str, Any]
    ) -> AsyncIterator[Answer]:
        asked = begun = self._clock.monotonic()
        first: float | None = None
        outcome: Outcome = "abandoned"
        endpoint = self._endpoint
        call = Call(
            endpoint=endpoint,
            breakers=self._breakers,
            messages=messages,
            end_user=endpoint.pseudonym(end_user),
            options={name: value for name, value in options.items() if name not in RESERVED},
            deadline=0.0,
            model=models[0],
            without=endpoint.unwanted,
        )
        answer: Answer | None = None
        try:
            async with self._gate.place(end_user, patience=endpoint.settings.timeout):
                begun = self._clock.monotonic()
                call.deadline = asyncio.get_running_loop().time() + endpoint.settings.timeout
                answer = await self._open(call, models)
                first = self._clock.monotonic() - begun
                try:
                    yield answer
                finally:
                    await answer.leave()
        except ChatError as error:
            if answer is None:
                outcome = outcome_of(error)
            raise
        finally:
            if answer is not None:
                outcome = self._judge(call, answer)
            if self._observe is not None:
                self._observe(
                    CallRecord(
                        model=call.model,
                        outcome=outcome,
                        waited=begun - asked,
                        seconds_to_first=first,
                        seconds=self._clock.monotonic() - begun,
                        usage=answer.usage if answer is not None else None,
                        retries=max(0, call.attempts - 1),
                    )
                )

    def _judge(self, call: Call, answer: Answer) -> Outcome:
        """How an answer that had begun ended."""
        if answer.error is None:
            return "answered" if answer.complete else "abandoned"
        call.breakers.of(answer.model).failed(Permit(probe=False))
        return outcome_of(answer.error)

    async def _open(self, call: Call, models: Sequence[str]) -> Answer:
        """The first answer that any of the models begins. Raises ChatError: that of the model asked for."""
        errors: list[ChatError] = []
        for number, model in enumerate(models):
            call.model = model
            try:
                return await self._try_model(call, last=number == len(models) - 1)
            except Failed as failed:
                errors.append(failed.error)
                if isinstance(failed.error, ContextTooLong):
                    raise failed.error from None  # the caller can make the prompt shorter
                if number == 0 and not failed.fall_back:
                    break
        error, *others = errors
        error.detail = "; then ".join([error.detail or str(error), *(f"{other}: {other.detail}" for other in others)])
        raise error

    async def _try_model(self, call: Call, *, last: bool) -> Answer:
        """An answer of `call.model`, after retries if need be. Raises Failed."""
        breaker = call.breakers.of(call.model)
        failed: Failed | None = None
        retries = 0
        while True:
            permit = breaker.admit()
            if permit is None:
                raise failed or self._shut_off(call.model, breaker.retry_in)
            try:
                answer = await self._attempt(call)
            except Failed as error:
                (breaker.failed if error.breaks else breaker.abandoned)(permit)
                failed = error
            except BaseException:
                breaker.abandoned(permit)
                raise
            else:
                breaker.succeeded(permit)
                if call.without != call.endpoint.unwanted:
                    call.endpoint.unwanted |= call.without
                return answer
            if not call.without.issuperset(failed.unwanted):
                call.without = call.without.union(failed.unwanted)
                continue
            wait = self._wait(call, failed, retries, last=last)
            if wait is None:
                raise failed
            retries += 1
            await self._clock.sleep(wait)

    def _shut_off(self, model: str, retry_in: float) -> Failed:
        error = ChatUnavailable(
            f"model {model!r} failed repeatedly and is left alone for a while", retry_after=retry_in
        )
        return Failed(error, fall_back=True)

    def _wait(self, call: Call, failed: Failed, retries: int, *, last: bool) -> float | None:
        """Seconds until the next attempt with the same model; None: there is none."""
        if not failed.retry or retries >= call.endpoint.settings.retries or (failed.slow and not last):
            return None
        asked = failed.error.retry_after or 0.0
        if asked > (_LONGEST_WAIT if last else _LONGEST_WAIT_WITH_FALLBACK):
            return None
        wait = asked + full_jitter(retries)
        return wait if asyncio.get_running_loop().time() + wait < call.deadline else None

    async def _attempt(self, call: Call) -> Answer:
        """Ask once. Raises Failed."""
        call.attempts += 1
        settings = call.endpoint.settings
        by = min(call.deadline, asyncio.get_running_loop().time() + settings.first_byte_timeout)
        response = await self._post(call, by)
        try:
            if response.status != 200:
                raise await self._refused(call, response, by)
            answer = Answer(
                response,
                model=call.model,
                idle=settings.idle_timeout,
                deadline=call.deadline,
                redact=call.endpoint.redact,
            )
            await answer.begin(by)
        except BaseException:
            response.close()
            raise
        return answer

    async def _post(self, call: Call, by: float) -> Response:
        if not self._entered:
            raise RuntimeError("the client has not been entered")
        body, settings = call.body(), call.endpoint.settings
        for _ in range(_MOST_STALE + 1):
            try:
                async with asyncio.timeout_at(by):
                    return await self._http.send(call.endpoint.chat, body, connect_timeout=settings.connect_timeout)
            except StaleConnection as error:
                failed = _unreachable(call, error)
            except OSError as error:
                raise _unreachable(call, error) from None
        raise failed

    async def _refused(self, call: Call, response: Response, by: float) -> Failed:
        return refused_by_status(
            response.status,
            response.headers,
            await _read_some(response, by),
            model=call.model,
            redact=call.endpoint.redact,
            clock=self._clock,
        )

    async def _list_models(self, endpoint: Endpoint) -> frozenset[str]:
        """The models that the server lists; none where it has no list. Raises ChatError if it refuses the key."""
        call = Call(
            endpoint=endpoint,
            breakers=self._breakers,
            messages=(),
            end_user="",
            options={},
            deadline=0.0,
            model=endpoint.settings.model,
        )
        by = asyncio.get_running_loop().time() + endpoint.settings.first_byte_timeout
        try:
            async with asyncio.timeout_at(by):
                response = await self._http.send(endpoint.models, connect_timeout=endpoint.settings.connect_timeout)
            with closing(response):
                if response.status in (404, 405, 501):
                    return frozenset()
                if response.status != 200:
                    raise await self._refused(call, response, by)
                found = json_of(await _read_some(response, by, most=_MODEL_LIST))
                return frozenset(str(model["id"]) for model in found["data"])
        except (ValueError, KeyError, TypeError):
            return frozenset()
        except Failed as refused:
            failed = refused
        except OSError as error:
            failed = _unreachable(call, error)
        raise failed.error


def _unreachable(call: Call, error: Exception) -> Failed:
    """The meaning of an error of the connection, before there was an answer."""
    endpoint = call.endpoint
    where = endpoint.chat.url.origin()
    detail = endpoint.redact(describe(error))
    if isinstance(error, ConnectTimeout):
        return broken(call.model, f"no connection to {where} within {endpoint.settings.connect_timeout:g} s", detail)
    if isinstance(error, TimeoutError):
        return broken(call.model, f"{where} did not answer in time", detail, slow=True)
    if isinstance(error, CertificateRefused):
        text = f"the certificate of {where} is not trusted; correct chat.base_url or the system's certificates"
        return Failed(ChatMisconfigured(text, detail=detail))
    if isinstance(error, ProxyRefused):
        return broken(call.model, f"the proxy does not connect to {where}", detail)
    return broken(call.model, f"no connection to {where}", detail)


async def _read_some(response: Response, by: float, *, most: int = _ERROR_BODY) -> bytes:
    """The beginning of a body, as far as it comes in time."""
    body = bytearray()
    try:
        async with asyncio.timeout_at(by):
            while len(body) < most and (data := await response.read()):
                body += data
    except OSError:
        pass  # the status tells enough
    return bytes(body[:most])
