"""What /metrics tells, in Prometheus' text format. Counted as it happens, read when asked for."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from datetime import datetime
from functools import cache

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from core.admission import Seen
from core.archive import StorageFigures
from core.chatgpt import CallRecord
from core.messages import AccountId
from gateway.supervisor import AccountState, Supervisor

_SECONDS = (0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120)


class Metrics(Collector):
    """The gateway's figures. `figures` is refreshed by whoever serves them."""

    def __init__(
        self,
        seen: Callable[[], Mapping[AccountId, Seen]],
        supervisors: Callable[[], Iterable[Supervisor]],
        last_sent: Callable[[AccountId], datetime | None],
    ) -> None:
        self.figures: StorageFigures | None = None
        self._seen = seen
        self._supervisors = supervisors
        self._last_sent = last_sent
        self._registry = CollectorRegistry()
        # finding the series of some labels costs more than counting in it: each is looked up once
        self._calls = cache(
            Counter(
                "chatgpt_ms_model_calls", "Calls to the model by outcome", ["model", "outcome"], registry=self._registry
            ).labels
        )
        self._retries = cache(
            Counter(
                "chatgpt_ms_model_retries", "Repeated calls to the model", ["model"], registry=self._registry
            ).labels
        )
        self._tokens = cache(
            Counter(
                "chatgpt_ms_model_tokens", "Tokens as reported", ["model", "direction"], registry=self._registry
            ).labels
        )
        self._first = cache(
            Histogram(
                "chatgpt_ms_model_first_text_seconds",
                "Until the first text",
                ["model"],
                buckets=_SECONDS,
                registry=self._registry,
            ).labels
        )
        self._whole = cache(
            Histogram(
                "chatgpt_ms_model_answer_seconds",
                "Until the whole answer",
                ["model"],
                buckets=_SECONDS,
                registry=self._registry,
            ).labels
        )
        self._workers = Gauge("chatgpt_ms_busy_conversations", "Conversations being answered", registry=self._registry)
        self._registry.register(self)

    def called(self, record: CallRecord) -> None:
        """One call to the model has ended."""
        self._calls(record.model, record.outcome).inc()
        if record.retries:
            self._retries(record.model).inc(record.retries)
        if record.seconds_to_first is not None:
            self._first(record.model).observe(record.seconds_to_first)
            self._whole(record.model).observe(record.seconds)
        if record.usage is not None:
            self._tokens(record.model, "input").inc(record.usage.input_tokens)
            self._tokens(record.model, "output").inc(record.usage.output_tokens)

    def text(self, *, workers: int) -> bytes:
        """Everything, as Prometheus reads it."""
        self._workers.set(workers)
        return generate_latest(self._registry)

    def collect(self) -> Iterable[Metric]:
        """What is read rather than counted."""
        messages = CounterMetricFamily(
            "chatgpt_ms_messages", "Messages by what became of them", labels=["account", "receipt"]
        )
        inbound = GaugeMetricFamily(
            "chatgpt_ms_last_inbound_timestamp_seconds", "Last message heard", labels=["account"]
        )
        for account, seen in self._seen().items():
            for receipt, count in (
                ("accepted", seen.accepted),
                ("duplicate", seen.duplicates),
                ("refused", seen.refused),
            ):
                messages.add_metric([account, receipt], count)
            if seen.last_inbound is not None:
                inbound.add_metric([account], seen.last_inbound.timestamp())
        yield from (messages, inbound, *self._accounts())
        if self.figures is not None:
            rows = GaugeMetricFamily("chatgpt_ms_journal_rows", "Rows that are not finished", labels=["state"])
            for state in ("waiting", "running", "unsent", "dead"):
                rows.add_metric([state], getattr(self.figures, state))
            size = GaugeMetricFamily(
                "chatgpt_ms_journal_file_bytes", "Size of the database", value=self.figures.file_bytes
            )
            yield from (rows, size)

    def _accounts(self) -> Iterable[Metric]:
        up = GaugeMetricFamily("chatgpt_ms_account_connected", "1 while the account is connected", labels=["account"])
        states = GaugeMetricFamily("chatgpt_ms_account_state", "1 for its present state", labels=["account", "state"])
        reconnects = CounterMetricFamily("chatgpt_ms_account_reconnects", "Lost connections", labels=["account"])
        heard = GaugeMetricFamily("chatgpt_ms_last_frame_timestamp_seconds", "Last frame heard", labels=["account"])
        replied = GaugeMetricFamily("chatgpt_ms_last_reply_timestamp_seconds", "Last reply shown", labels=["account"])
        for supervisor in self._supervisors():
            account, health = supervisor.account, supervisor.health
            up.add_metric([account], float(health.state is AccountState.CONNECTED))
            for state in AccountState:
                states.add_metric([account, state.value], float(health.state is state))
            reconnects.add_metric([account], health.reconnects)
            if health.last_heard is not None:
                heard.add_metric([account], health.last_heard.timestamp())
            if (sent := self._last_sent(account)) is not None:
                replied.add_metric([account], sent.timestamp())
        return (up, states, reconnects, heard, replied)
