"""Owns the states of a job and what leads from one to another: one table, in which every pair of a state and a step has an answer.

The rules: who drives a job tells each step here first and acts on the answer. A step that can come
late, or twice, or from outside means nothing where it is too late (``STAYS``); one that only the
driver itself can take, in a state in which it must not, is a defect of the driver (``IMPOSSIBLE``).
docs/lifecycle.md draws the diagram of this table.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum, StrEnum, auto
from typing import NamedTuple


class State(StrEnum):
    """Where a job is in its life."""

    PENDING = "Pending"
    LAUNCHING = "Launching"
    RUNNING = "Running"
    READY = "Ready"
    RESTARTING = "Restarting"
    TERMINATING = "Terminating"
    COMPLETED = "Completed"
    FAILED = "Failed"
    SKIPPED = "Skipped"
    DISABLED = "Disabled"

    @property
    def final(self) -> bool:
        """Whether nothing more happens to it by itself."""
        return self in (State.COMPLETED, State.FAILED, State.SKIPPED, State.DISABLED)

    @property
    def alive(self) -> bool:
        """Whether there may be processes of it."""
        return self in (State.LAUNCHING, State.RUNNING, State.READY, State.TERMINATING)


class Step(StrEnum):
    """What can happen to a job."""

    LAUNCH = "launch"
    """Everything that it waited for is there: it is being started."""
    SKIP = "skip"
    """What it waits for can never come: it is not started."""
    STARTED = "started"
    """Its command was spawned."""
    READY = "ready"
    """By all that it has to say so, it is ready."""
    UNREADY = "unready"
    """It is not any more."""
    STOP = "stop"
    """It is to end."""
    COMPLETED = "completed"
    """It has ended for good, well."""
    FAILED = "failed"
    """It has ended for good, badly, or could not be started."""
    RETRY = "retry"
    """It has ended, or could not be started, and is to be started again after a while."""
    START = "start"
    """It is wanted, again or although it is disabled."""


class Mark(Enum):
    """What a step that leads nowhere is."""

    STAYS = auto()
    """It means nothing here."""
    IMPOSSIBLE = auto()
    """It cannot happen here."""


class Row(NamedTuple):
    """What each step is in one state: each stands in exactly one of the three."""

    moves: Mapping[Step, State]
    stays: tuple[Step, ...]
    impossible: tuple[Step, ...]


_NEVER_RAN = (Step.LAUNCH, Step.STARTED, Step.READY, Step.UNREADY, Step.COMPLETED, Step.FAILED, Step.RETRY)
_ENDED = Row(
    {Step.START: State.PENDING},
    (Step.READY, Step.UNREADY, Step.STOP),
    (Step.LAUNCH, Step.SKIP, Step.STARTED, Step.COMPLETED, Step.FAILED, Step.RETRY),
)

ROWS = {
    State.PENDING: Row(
        {Step.LAUNCH: State.LAUNCHING, Step.SKIP: State.SKIPPED, Step.STOP: State.SKIPPED},
        (Step.START,),
        (Step.STARTED, Step.READY, Step.UNREADY, Step.COMPLETED, Step.FAILED, Step.RETRY),
    ),
    # Nothing is heard of it before it is told that it was started.
    State.LAUNCHING: Row(
        {Step.STARTED: State.RUNNING, Step.STOP: State.TERMINATING, Step.FAILED: State.FAILED, Step.RETRY: State.RESTARTING},
        (Step.START,),
        (Step.LAUNCH, Step.SKIP, Step.READY, Step.UNREADY, Step.COMPLETED),
    ),
    State.RUNNING: Row(
        {
            Step.READY: State.READY,
            Step.STOP: State.TERMINATING,
            Step.COMPLETED: State.COMPLETED,
            Step.FAILED: State.FAILED,
            Step.RETRY: State.RESTARTING,
        },
        (Step.UNREADY, Step.START),
        (Step.LAUNCH, Step.SKIP, Step.STARTED),
    ),
    State.READY: Row(
        {
            Step.UNREADY: State.RUNNING,
            Step.STOP: State.TERMINATING,
            Step.COMPLETED: State.COMPLETED,
            Step.FAILED: State.FAILED,
            Step.RETRY: State.RESTARTING,
        },
        (Step.READY, Step.START),
        (Step.LAUNCH, Step.SKIP, Step.STARTED),
    ),
    # A stop ends it by way of Terminating, like every other: COMPLETED or FAILED, by how its last run ended, follows at once.
    State.RESTARTING: Row(
        {Step.LAUNCH: State.LAUNCHING, Step.STOP: State.TERMINATING},
        (Step.READY, Step.UNREADY, Step.START),
        (Step.SKIP, Step.STARTED, Step.COMPLETED, Step.FAILED, Step.RETRY),
    ),
    # It may have been told to end while it was being started. Who wants it again asks when it has ended: here it would be forgotten.
    State.TERMINATING: Row(
        {Step.COMPLETED: State.COMPLETED, Step.FAILED: State.FAILED},
        (Step.STARTED, Step.READY, Step.UNREADY, Step.STOP),
        (Step.LAUNCH, Step.SKIP, Step.RETRY, Step.START),
    ),
    State.COMPLETED: _ENDED,
    State.FAILED: _ENDED,
    # Two that it depends on can fail, and a stop can come first.
    State.SKIPPED: Row({Step.START: State.PENDING}, (Step.SKIP, Step.STOP), _NEVER_RAN),
    State.DISABLED: Row({Step.START: State.PENDING}, (Step.STOP,), (Step.SKIP, *_NEVER_RAN)),
}

TABLE: dict[tuple[State, Step], State | Mark] = {
    (state, step): answer
    for state, row in ROWS.items()
    for answers in (row.moves, dict.fromkeys(row.stays, Mark.STAYS), dict.fromkeys(row.impossible, Mark.IMPOSSIBLE))
    for step, answer in answers.items()
}

FIRST = (State.PENDING, State.DISABLED)
"""Where a job begins."""


def after(state: State, step: Step) -> State:
    """The state that a job is in after the step. Raises AssertionError if that cannot happen there: a defect of who says it."""
    answer = TABLE[state, step]
    if answer is Mark.IMPOSSIBLE:
        raise AssertionError(f"a job that is {state} was told {step.name}, which cannot be: a defect in dtee-async, please report it")
    return state if answer is Mark.STAYS else answer
