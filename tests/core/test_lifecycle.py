"""The states of a job: each pair of the table, lives made of random steps, and the diagram in the documentation."""

from __future__ import annotations

import re
import runpy
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dtee_async.core.lifecycle import FIRST, ROWS, TABLE, State, Step, after

ROOT = Path(__file__).parent.parent.parent
PAGE = (ROOT / "docs/lifecycle.md").read_text()

GRID = """
            launch    skip    started ready unready stop        completed failed retry      start
Pending     Launching Skipped !       !     !       Skipped     !         !      !          -
Launching   !         !       Running !     !       Terminating !         Failed Restarting -
Running     !         !       !       Ready -       Terminating Completed Failed Restarting -
Ready       !         !       !       -     Running Terminating Completed Failed Restarting -
Restarting  Launching !       !       -     -       Terminating !         !      !          -
Terminating !         !       -       -     -       -           Completed Failed !          !
Completed   !         !       !       -     -       -           !         !      !          Pending
Failed      !         !       !       -     -       -           !         !      !          Pending
Skipped     !         -       !       !     !       -           !         !      !          Pending
Disabled    !         !       !       !     !       -           !         !      !          Pending
"""
"""All pairs. ``-``: means nothing; ``!``: cannot be."""

STEPS, *LINES = (line.split() for line in GRID.strip().splitlines())
PAIRS = {(State(state), Step(step)): answer for state, *answers in LINES for step, answer in zip(STEPS, answers, strict=True)}


def test_every_pair_is_in_the_table_and_in_the_grid():
    assert TABLE.keys() == PAIRS.keys() == {(state, step) for state in State for step in Step}


@pytest.mark.parametrize("state", State)
def test_a_row_has_each_step_once(state):
    moves, stays, impossible = ROWS[state]
    assert sorted([*moves, *stays, *impossible]) == sorted(Step)
    assert state not in moves.values()


@pytest.mark.parametrize(("state", "step"), PAIRS)
def test_each_pair_has_its_answer(state, step):
    answer = PAIRS[state, step]
    if answer == "!":
        with pytest.raises(AssertionError, match=f"a job that is {state} was told {step.name}, which cannot be"):
            after(state, step)
    else:
        assert after(state, step) == (state if answer == "-" else answer)


@pytest.mark.parametrize(
    ("state", "final", "alive"),
    [
        ("Pending", False, False),
        ("Launching", False, True),
        ("Running", False, True),
        ("Ready", False, True),
        ("Restarting", False, False),
        ("Terminating", False, True),
        ("Completed", True, False),
        ("Failed", True, False),
        ("Skipped", True, False),
        ("Disabled", True, False),
    ],
)
def test_a_state_says_whether_it_is_final_and_whether_there_may_be_processes(state, final, alive):
    assert (State(state).final, State(state).alive) == (final, alive)


def test_every_state_can_be_reached():
    reached = set(FIRST)
    while more := {target for state in reached for target in ROWS[state].moves.values()} - reached:
        reached |= more
    assert reached == set(State)


def test_a_final_state_is_left_only_by_a_start():
    assert {step for state in State if state.final for step in ROWS[state].moves} == {Step.START}


@pytest.mark.parametrize("state", State)
def test_a_stop_ends_it_from_everywhere(state):
    stopped = after(state, Step.STOP)
    assert stopped.final or after(stopped, Step.COMPLETED).final
    assert stopped.final or after(stopped, Step.FAILED).final


ENDS = [Step.COMPLETED, Step.FAILED, Step.RETRY]


def what_the_driver_can_say(state, process):
    """The steps of a driver that makes no mistake, ``process``: whether there is one."""
    match state:
        case State.PENDING:
            return [Step.LAUNCH, Step.SKIP]
        case State.RESTARTING:
            return [Step.LAUNCH]
        case State.LAUNCHING:
            return [Step.STARTED, Step.FAILED, Step.RETRY]
        case State.RUNNING | State.READY:
            return ENDS
        case State.TERMINATING:  # if it was stopped while it was spawned, that is told now
            return [Step.COMPLETED, Step.FAILED] if process else [Step.STARTED, Step.FAILED]
        case State.SKIPPED:
            return [Step.START, Step.SKIP]
    return [Step.START]


@given(st.sampled_from(FIRST), st.data())
def test_a_life_of_any_steps_has_processes_only_where_it_may_and_ends(state, data):
    """A driver that makes no mistake is never told of one, whatever is reported late and whenever it is stopped."""
    process = was_started = False
    for _ in range(data.draw(st.integers(0, 40))):
        reports = [Step.READY, Step.UNREADY] if was_started and state not in (State.PENDING, State.LAUNCHING, State.SKIPPED) else []
        step = data.draw(st.sampled_from([Step.STOP, *reports, *what_the_driver_can_say(state, process)]))
        state = after(state, step)
        process = (process or step is Step.STARTED) and step not in ENDS
        was_started |= process
        assert state.alive or not process
        assert not (state.alive and state.final)
    state = after(state, Step.STOP)
    assert state.final or after(state, Step.FAILED).final


script = runpy.run_path(str(ROOT / "scripts/lifecycle.py"))


def test_the_diagram_in_the_documentation_is_what_the_table_says():
    assert script["drawn"](PAGE) == PAGE, "run 'python scripts/lifecycle.py'"


def test_the_diagram_has_every_move_and_no_other():
    arrows = re.findall(r"^    (\w+) --> (\w+): (.*)$", PAGE, re.MULTILINE)
    drawn = {(source, step): target for source, target, steps in arrows for step in steps.split(", ")}
    assert drawn == {pair: answer for pair, answer in PAIRS.items() if answer not in "-!"}


def test_the_documentation_says_what_each_state_and_step_means():
    assert re.findall(r"^\| (\w+) \| (?!what (?:it means|has happened))", PAGE, re.MULTILINE) == [*State, *Step]
