"""The long experiments are what they say: their tests exist, and their knobs are read there."""

from __future__ import annotations

from pathlib import Path

import pytest

from bench.chaos import EXPERIMENTS, Experiment, Finding, find_out, table

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("experiment", EXPERIMENTS, ids=lambda experiment: experiment.name)
def test_every_experiment_has_its_tests_and_knobs(experiment: Experiment) -> None:
    (path,) = (ROOT / argument for argument in experiment.tests if argument.endswith(".py"))
    assert path.is_file()
    text = "".join(file.read_text() for file in (path, *(ROOT / "tests" / "scenario").glob("*.py")))
    assert [knob for knob in experiment.knobs if f'"{knob}"' not in text] == []
    assert experiment.tests.count("-k") <= 1  # the last one alone would count


def test_the_table_has_what_was_found() -> None:
    tried = Experiment("an experiment", "a bar", ())
    rows = table([Finding(tried, True, ("R1: 2 kills",), 3.0), Finding(tried, False, (), 3.0)]).splitlines()
    assert rows[2:] == ["| an experiment | a bar | R1: 2 kills | yes |", "| an experiment | a bar | 3 s | NO |"]


async def test_an_experiment_is_run_with_its_knobs_and_fails_where_nothing_is_tested(
    capsys: pytest.CaptureFixture[str],
) -> None:
    quick = ("tests/unit/test_chaos.py", "-k", "the_table")
    assert (await find_out(Experiment("sound", "", quick, {"CHATGPT_MS_KILLS": "1"}))).passed
    assert not (await find_out(Experiment("nothing", "", ("tests/unit/test_chaos.py", "-k", "no_such_test")))).passed
    assert "deselected" in capsys.readouterr().out
