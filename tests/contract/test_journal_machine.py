"""Random sequences of calls, crashes and redeliveries on SQLite, compared with the model."""

from __future__ import annotations

import os
from pathlib import Path

from hypothesis import HealthCheck, settings

from tests.clock import HeldClock
from tests.contract.journal_budget_machine import BudgetMachine
from tests.contract.journal_machine import JournalMachine
from tests.contract.journal_scenes import Engine
from tests.contract.test_journal import SqliteEngine


class SqliteMachine(JournalMachine):
    """The machine on files in memory."""

    def make_engine(self, folder: Path, clock: HeldClock) -> Engine:
        return SqliteEngine(folder, clock)


class SqliteBudgetMachine(BudgetMachine):
    """The same, for what is spent."""

    def make_engine(self, folder: Path, clock: HeldClock) -> Engine:
        return SqliteEngine(folder, clock)


SETTINGS = settings(
    max_examples=int(os.environ.get("CHATGPT_MS_EXAMPLES", "100")),
    stateful_step_count=40,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
TestSqliteMachine = SqliteMachine.TestCase
TestSqliteMachine.settings = SETTINGS
TestSqliteBudgetMachine = SqliteBudgetMachine.TestCase
TestSqliteBudgetMachine.settings = settings(SETTINGS, max_examples=max(40, SETTINGS.max_examples // 2))
