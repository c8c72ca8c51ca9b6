"""Owns what the services of a supervisor share, and what one is given and keeps: its outlets, its tally, its bell."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import anyio

from .health import HealthWatch
from .job import NOTHING, Job, Surroundings

if TYPE_CHECKING:
    from ..core.contracts import Loop, Output
    from ..engine.captures import Captures
    from ..engine.command import Outcome
    from .events import Event
    from .places import Places


class Outlets(Protocol):
    """Where the output of a job goes, run after run."""

    def open(self) -> Sequence[Output]:
        """The outputs of one run, which closes them. Raises OutputError."""
        ...

    def close(self) -> None:
        """There will be no further run."""
        ...


@dataclass(frozen=True)
class Scene:
    """What a service has to do with the world; a test has its own."""

    make_job: Callable[..., Job] = Job
    make_health: Callable[..., HealthWatch] = HealthWatch
    random: Callable[[], float] = random.random


REAL = Scene()


@dataclass(frozen=True)
class House:
    """What all services of a supervisor share. ``fail`` is told the status of each failure, ``end_run`` that a job ends the whole run."""

    loop: Loop
    captures: Captures
    tell: Callable[[Event], None]
    fail: Callable[[int], None]
    end_run: Callable[[str, int], None]
    places: Places
    surroundings: Surroundings = NOTHING
    scene: Scene = REAL


@dataclass
class Tally:
    """What a job has used, over all its runs."""

    duration_s: float = 0.0
    cpu_s: float = 0.0
    max_rss_bytes: int = 0
    status: int | None = None
    """Of the last run, as a shell shows it; None: it never ran."""

    def add(self, outcome: Outcome) -> None:
        """Count a run."""
        exit = outcome.exit
        self.duration_s += outcome.duration_s
        self.cpu_s += exit.user_s + exit.system_s
        self.max_rss_bytes = max(self.max_rss_bytes, exit.max_rss_bytes)
        self.status = exit.status


class Bell:
    """Wakes all who wait at the moment. It can be rung from a callback of the loop, where an anyio.Event cannot even be made."""

    def __init__(self) -> None:
        self._waiting: list[anyio.Event] = []

    async def wait(self) -> None:
        """Until it is rung."""
        event = anyio.Event()
        self._waiting.append(event)
        await event.wait()

    def ring(self) -> None:
        waiting, self._waiting = self._waiting, []
        for event in waiting:
            event.set()
