"""`make bench-chaos`: the experiments on faults, long: one after the other, and a table of what each was to show and did.

`python -m bench.chaos [WORD …]` runs those whose name has one of the words. About three quarters of an hour for all. The
experiments are tests of tests/scenario and tests/contract; here they get more kills, drops, faults and load than in CI,
and times are asserted that a busy machine would spoil.
"""

from __future__ import annotations

import asyncio
import os
import re
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).parent.parent

_FIGURE = re.compile(r"^(R\d|[A-Z][\w, ]+: \d+ (kills|drops))", re.MULTILINE)
"""How the lines begin in which experiments tell their figures."""

_PLATFORMS = ("slack", "discord", "feishu", "dingtalk", "wechat", "weixin")


@dataclass(frozen=True)
class Experiment:
    """One or several tests, run with more of everything."""

    name: str
    bar: str
    """What must hold; the tests assert it."""
    tests: Sequence[str]
    """Arguments of pytest."""
    knobs: dict[str, str] = field(default_factory=dict)
    """Environment."""


@dataclass(frozen=True)
class Finding:
    """What became of an experiment."""

    experiment: Experiment
    passed: bool
    figures: Sequence[str]
    seconds: float


_NEGATIVE = ("-k", "not notices and not sees")
"""The paired negatives are CI's."""

EXPERIMENTS: Sequence[Experiment] = (
    Experiment(
        "kill -9 over HTTP",
        "0 lost, doubled, misordered of all accepted",
        ("tests/scenario/test_kill.py", *_NEGATIVE),
        {"CHATGPT_MS_KILLS": "200"},
    ),
    *(
        Experiment(
            f"kill -9 and drops on {name}",
            "one whole answer everywhere; doubled only with the mark",
            (f"tests/scenario/test_{name}_kill.py", "-k", "(kills or drops) and not notices"),
            {"CHATGPT_MS_KILLS": "60", "CHATGPT_MS_DROPS_FOR": "60"},
        )
        for name in _PLATFORMS
    ),
    Experiment(
        "journal, crash by crash",
        "the invariants, in 2,000 examples",
        ("tests/contract/test_journal_machine.py",),
        {"CHATGPT_MS_EXAMPLES": "2000"},
    ),
    Experiment(
        "model fails",
        "100 % ended, 97 % answered",
        ("tests/scenario/test_model_faults.py",),
        {"CHATGPT_MS_EXAMPLES": "3000"},
    ),
    Experiment(
        "bad network to the model",
        "100 % told, 97 % answered, over when it is over",
        ("tests/scenario/test_faults_model.py", *_NEGATIVE),
        {"CHATGPT_MS_MODEL_MESSAGES": "3000"},
    ),
    Experiment(
        "bad network to the platforms",
        "0 lost, 0 doubled; heard again p95 < 1 s; no storm",
        ("tests/scenario/test_faults_platforms.py", *_NEGATIVE),
        {"CHATGPT_MS_FAULTS_FOR": "40"},
    ),
    Experiment(
        "ten times the load",
        "answered or refused; +64 MB; other platform's p95 within 20 %",
        ("tests/scenario/test_overload.py", "-k", "not notices and not whole_everywhere"),
        {"CHATGPT_MS_LOAD": "3000", "CHATGPT_MS_SLOW_FOR": "5", "CHATGPT_MS_MEASURED": "1"},
    ),
    Experiment(
        "200,000 characters",
        "whole and in order on every platform",
        ("tests/scenario/test_overload.py", "-k", "whole_everywhere"),
        {"CHATGPT_MS_ANSWER": "200000"},
    ),
    Experiment(
        "many people over a long time",
        "< 1 MB for 10,000 turns after the warm-up; tasks and descriptors flat",
        ("tests/scenario/test_soak.py",),
        {"CHATGPT_MS_SESSIONS": "10000", "CHATGPT_MS_TURNS": "20"},
    ),
    Experiment("stops under load", "exit 0 in time, 0 lost", ("tests/scenario/test_lifetime.py",)),
)


async def find_out(experiment: Experiment) -> Finding:
    """Run one; what its tests print is kept, and shown where they fail."""
    began = time.monotonic()
    child = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "pytest", "-q", "-s", "-p", "no:cacheprovider", *experiment.tests),
        cwd=ROOT,
        env={**os.environ, **experiment.knobs},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    out, _ = await child.communicate()
    text = out.decode(errors="replace")
    if child.returncode:
        print(text, flush=True)
    figures = [line.strip() for line in text.splitlines() if _FIGURE.match(line)]
    return Finding(experiment, child.returncode == 0, figures, time.monotonic() - began)


def table(findings: Sequence[Finding]) -> str:
    """Experiment, bar, figure, passed."""
    rows = ["| experiment | bar | figure | passed |", "|---|---|---|---|"]
    for finding in findings:
        figure = "<br>".join(finding.figures) or f"{finding.seconds:.0f} s"
        passed = "yes" if finding.passed else "NO"
        rows.append(f"| {finding.experiment.name} | {finding.experiment.bar} | {figure} | {passed} |")
    return "\n".join(rows)


async def main(words: Sequence[str]) -> int:
    """The exit code: 1 if anything did not hold."""
    findings = []
    for experiment in EXPERIMENTS:
        if not words or any(word in experiment.name for word in words):
            print(f"{experiment.name} …", flush=True)
            findings.append(await find_out(experiment))
            print(f"  {'passed' if findings[-1].passed else 'FAILED'} after {findings[-1].seconds:.0f} s", flush=True)
    print(f"\n{table(findings)}")
    return int(not findings or not all(finding.passed for finding in findings))


if __name__ == "__main__":
    sys.exit(asyncio.run(main(sys.argv[1:])))
