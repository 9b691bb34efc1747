"""What a message costs on one road, beside a bare script on the same: rounds in turns, medians."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass

from bench.subjects import Subject, Subjects
from bench.table import Table, median, percentile

USERS = 64
_PEOPLE = 1280
"""Those who take turns: nobody writes again within a second, which is what Slack allows a bot to answer in one place."""
_NEW = 1_000_000
"""Numbers from here on are people who have not written yet."""


@dataclass(frozen=True, slots=True)
class Size:
    """How much is measured."""

    rounds: int
    alone: int
    """Messages of a round of one user."""
    together: int
    """Messages of a round of 64."""
    sessions: tuple[int, ...]


def size_of(*, quick: bool, http: bool) -> Size:
    """Platforms take more time for a message, so they get fewer."""
    if quick:
        return Size(3, 100, 1000 if http else 640, (1000,))
    return Size(7, 300, 3000 if http else 1920, (1000, 10_000))


async def measure(subjects: Subjects, size: Size) -> None:
    """Print one table. Raises RuntimeError if answers were not what they should be."""
    idle = [each.process.memory for each in subjects.all]
    for each in subjects.all:  # everybody has written once: names are known, connections are there
        await _asked(each, USERS, _PEOPLE)
    p50, p99, rates, costs, shares = (defaultdict[str, list[float]](list) for _ in range(5))
    for _ in range(size.rounds):
        for each in subjects.all:
            latencies = await _asked(each, 1, size.alone)
            p50[each.name].append(percentile(latencies, 0.50) * 1000)
            p99[each.name].append(percentile(latencies, 0.99) * 1000)
        for each in subjects.all:
            cpu, theirs = each.process.cpu, subjects.load()
            result = await each.ask(users=USERS, requests=size.together, people=_PEOPLE)
            _check(each, result.wrong)
            rates[each.name].append(size.together / result.seconds)
            costs[each.name].append((each.process.cpu - cpu) * 1000 / size.together)
            shares[each.name].append((subjects.load() - theirs) * 1000 / size.together)
    names = [each.name for each in subjects.all]
    bare = names[1:]
    table = Table(subjects.title, *names, *(f"ratio to {name}" for name in bare))

    def row(title: str, figures: dict[str, list[float]], form: str) -> None:
        middle = {name: median(figures[name]) for name in names}
        ratios = [f"{middle[names[0]] / middle[name]:.2f}" for name in bare]
        table.row(title, *(form.format(middle[name]) for name in names), *ratios)

    row("latency at one user, p50, ms", p50, "{:.2f}")
    row("latency at one user, p99, ms", p99, "{:.2f}")
    for title, figures in (("p50, ms", p50), ("p99, ms", p99)):
        for name in bare:
            added = [one - other for one, other in zip(figures[names[0]], figures[name], strict=True)]
            table.row(f"added to {name}, {title}", f"{median(added):.2f}")
    row(f"messages a second, {USERS} users", rates, "{:.0f}")
    row("processor, ms a message", costs, "{:.2f}")
    table.row("processor of people and platform, ms", *(f"{median(shares[name]):.2f}" for name in names))
    table.row("memory when idle, MB", *(f"{each:.0f}" for each in idle))
    table.row("memory after the rounds, MB", *(f"{each.process.memory:.0f}" for each in subjects.all))
    ours, done = subjects.all[0], 0
    for sessions in size.sessions:
        result = await ours.ask(users=USERS, requests=sessions - done, people=sessions - done, offset=_NEW + done)
        _check(ours, result.wrong)
        done = sessions
        table.row(f"memory after {sessions:,} more sessions, MB", f"{ours.process.memory:.0f}")
    if subjects.platform is not None and (complaints := await subjects.platform.do("complaints")):
        print(f"complaints of the platform: {'; '.join(complaints)}")


async def _asked(subject: Subject, users: int, requests: int) -> list[float]:
    result = await subject.ask(users=users, requests=requests, people=_PEOPLE)
    _check(subject, result.wrong)
    return result.latencies


def _check(subject: Subject, wrong: int) -> None:
    if wrong:
        raise RuntimeError(f"{subject.name}: {wrong} answers were lost, doubled, misordered or damaged")
