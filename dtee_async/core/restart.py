"""Owns whether and when a job that has ended is started again: arithmetic over its restart policy; who has the clock brings the time."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import NamedTuple

from .policy import FOREVER, Availability, Restart

JITTER = 0.1


class Next(NamedTuple):
    """What follows the end of a run: it is started again after ``delay_s`` seconds, or not (None) for this ``reason``.

    ``given_up``: the policy wants it again, and it was restarted too often.
    """

    delay_s: float | None
    reason: str = ""
    given_up: bool = False


class Restarts:
    """The restarts of one job. ``random``: a number from 0 to below 1, as random.random(); times are seconds of any steady clock.

    A stable run begins the count anew: that of the back-off, and that of ``max_restarts`` where it has
    no window. A limit within a window holds in every window, whatever runs were stable.
    """

    def __init__(self, availability: Availability, random: Callable[[], float]) -> None:
        self.count: int = 0
        """Restarts so far: the first run is none."""
        self._policy = availability
        self._random = random
        self._backoff_s = availability.backoff_seconds
        self._started_s: float | None = None
        self._due = False
        """The next start is a restart."""
        self._counted_s: deque[float] = deque()
        """When those restarts were made that count for ``max_restarts``: never more than that."""

    def started(self, now_s: float) -> None:
        """It is being started: to be said of every attempt, of the first one and of those that fail too."""
        self._started_s = now_s
        if self._due:
            self._due = False
            self.count += 1
            if self._policy.max_restarts:
                self._counted_s.append(now_s)

    def ended(self, now_s: float, *, succeeded: bool) -> Next:
        """What follows, now that it has ended by itself, or could not be started."""
        assert self._started_s is not None, "started() comes before ended()"
        if now_s - self._started_s >= self._policy.stable_seconds:
            self._begin_anew()
        self._started_s = None
        if reason := self._unwanted(succeeded=succeeded):
            return Next(None, reason)
        delay_s = self._delay_s()
        if reason := self._too_many(now_s + delay_s):
            return Next(None, reason, given_up=True)
        self._backoff_s = min(2 * self._backoff_s, self._policy.backoff_max_seconds)
        self._due = True
        return Next(delay_s)

    def _begin_anew(self) -> None:
        self._backoff_s = self._policy.backoff_seconds
        if self._policy.restart_window_seconds == FOREVER:
            self._counted_s.clear()

    def _unwanted(self, *, succeeded: bool) -> str:
        """Why the policy does not want it again after such an end; empty: it does."""
        match self._policy.restart:
            case Restart.NO | Restart.EXIT_ON_FAILURE:
                return f'restart = "{self._policy.restart}"'
            case Restart.ON_FAILURE if succeeded:
                return 'restart = "on_failure", and it succeeded'
            case _:
                return ""

    def _delay_s(self) -> float:
        """Somewhere within a tenth of the back-off, so that jobs which crashed together do not come back together, at the cap neither."""
        low_s = (1 - JITTER) * self._backoff_s
        high_s = min((1 + JITTER) * self._backoff_s, self._policy.backoff_max_seconds)
        return low_s + (high_s - low_s) * self._random()

    def _too_many(self, then_s: float) -> str:
        """Why it cannot be restarted then; empty: it can."""
        limit, window_s = self._policy.max_restarts, self._policy.restart_window_seconds
        while self._counted_s and self._counted_s[0] <= then_s - window_s:
            self._counted_s.popleft()
        if not limit or len(self._counted_s) < limit:
            return ""
        return f"{limit} restart{'s' * (limit > 1)} " + ("in a row" if window_s == FOREVER else f"within {window_s:g} s")
