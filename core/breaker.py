"""A circuit breaker: stops calling what keeps failing, and tries it again with one call at a time."""

from __future__ import annotations

from collections import deque

from core.clock import Clock
from core.latest import Latest

_REMEMBERED = 256
"""Names that have a breaker; a forgotten one is closed."""


class Permit:
    """Leave to make one call. Its outcome is told to the breaker that gave it."""

    __slots__ = ("probe",)

    def __init__(self, *, probe: bool) -> None:
        self.probe = probe


class Breaker:
    """Closed until `failures` calls failed within `window` seconds, and no fewer than succeeded in that time.

    (Without the second condition a busy server that fails once in a hundred calls would be shut off.) Then open for
    `rest` seconds, after which one call may probe. A failed probe doubles the rest, up to `longest_rest`; a successful
    one closes the breaker.
    """

    def __init__(
        self, clock: Clock, *, failures: int = 5, window: float = 30.0, rest: float = 10.0, longest_rest: float = 60.0
    ) -> None:
        self._clock = clock
        self._failures = failures
        self._window = window
        self._first_rest = self._rest = rest
        self._longest_rest = longest_rest
        self._recent: deque[tuple[float, bool]] = deque()
        """Time and success of the calls in the window, from its first failure on."""
        self._recent_failures = 0
        self._open_until: float | None = None
        self._probing = False

    @property
    def open(self) -> bool:
        """Whether calls are refused, apart from a probe."""
        return self._open_until is not None

    @property
    def retry_in(self) -> float:
        """Seconds until a call may be let through; 0 when it is closed or a probe is due or under way."""
        return 0.0 if self._open_until is None else max(0.0, self._open_until - self._clock.monotonic())

    def admit(self) -> Permit | None:
        """Leave to call now, or None. Every permit must be given back by one of the methods below."""
        if self._open_until is None:
            return Permit(probe=False)
        if self._probing or self._clock.monotonic() < self._open_until:
            return None
        self._probing = True
        return Permit(probe=True)

    def succeeded(self, permit: Permit) -> None:
        """The call worked."""
        if permit.probe:
            self._probing = False
            self._open_until = None
            self._rest = self._first_rest
            self._recent.clear()
            self._recent_failures = 0
        self._note(success=True)

    def failed(self, permit: Permit) -> None:
        """The call failed in a way that calling less may help."""
        now = self._clock.monotonic()
        if permit.probe:
            self._probing = False
            self._rest = min(self._longest_rest, self._rest * 2)
            self._open_until = now + self._rest
        elif self._open_until is None:
            self._note(success=False)
            if self._recent_failures >= self._failures and self._recent_failures * 2 >= len(self._recent):
                self._open_until = now + self._rest

    def abandoned(self, permit: Permit) -> None:
        """The call ended without telling anything: cancelled, or refused for a reason of its own."""
        if permit.probe:
            self._probing = False

    def _note(self, *, success: bool) -> None:
        now = self._clock.monotonic()
        while self._recent and self._recent[0][0] <= now - self._window:
            _, worked = self._recent.popleft()
            self._recent_failures -= not worked
        if success and not self._recent_failures:  # nothing to weigh against: a healthy model costs no memory
            self._recent.clear()
            return
        self._recent.append((now, success))
        self._recent_failures += not success


class Breakers:
    """A breaker for each name, made when first asked for."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._breakers: Latest[str, Breaker] = Latest(_REMEMBERED)

    def of(self, name: str) -> Breaker:
        """The breaker of `name`. The one unused for longest is forgotten when there are too many."""
        return self._breakers.of(name, lambda: Breaker(self._clock))

    def open(self) -> list[str]:
        """The names that are shut off now."""
        return [name for name, breaker in self._breakers.items() if breaker.open]
