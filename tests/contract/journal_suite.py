"""What every engine of durable storage must do: the rules of core/journal.py and core/archive.py as tests.

An engine's test module subclasses `JournalContract` and overrides its `engine`.
"""

from __future__ import annotations

from tests.contract.journal_admission import AdmissionContract
from tests.contract.journal_archive import ArchiveContract
from tests.contract.journal_at_once import AtOnceContract
from tests.contract.journal_budgets import BudgetContract
from tests.contract.journal_delivery import DeliveryContract
from tests.contract.journal_links import LinkContract
from tests.contract.journal_people import PeopleContract
from tests.contract.journal_summaries import SummaryContract
from tests.contract.journal_turns import TurnContract


class JournalContract(
    AdmissionContract,
    AtOnceContract,
    BudgetContract,
    TurnContract,
    DeliveryContract,
    ArchiveContract,
    LinkContract,
    PeopleContract,
    SummaryContract,
):
    """All of it."""
