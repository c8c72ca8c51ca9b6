"""When a job is started again: every policy, the back-off, the limits; hours of it in no time, as the time is a number."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dtee_async.core.policy import FOREVER, Availability, Restart
from dtee_async.core.restart import Next, Restarts

ALWAYS = (Restart.ALWAYS, Restart.UNLESS_STOPPED)
JUST_BELOW_1 = 1 - 2**-53


def exact(base_s):
    """A back-off without chance: the middle, which is ``base_s`` below the cap."""
    return pytest.approx(base_s)


class Life:
    """A job whose runs last as long as one likes."""

    def __init__(self, random=lambda: 0.5, **policy):
        self.restarts = Restarts(Availability(**({"restart": Restart.ALWAYS} | policy)), random)
        self.now_s = 1000.0

    def run(self, for_s=0.0, *, succeeded=False):
        """One run; then the clock is where the next one starts."""
        self.restarts.started(self.now_s)
        self.now_s += for_s
        found = self.restarts.ended(self.now_s, succeeded=succeeded)
        self.now_s += found.delay_s or 0
        return found


@pytest.mark.parametrize(
    ("restart", "succeeded", "reason"),
    [
        (Restart.NO, True, 'restart = "no"'),
        (Restart.NO, False, 'restart = "no"'),
        (Restart.EXIT_ON_FAILURE, True, 'restart = "exit_on_failure"'),
        (Restart.EXIT_ON_FAILURE, False, 'restart = "exit_on_failure"'),
        (Restart.ON_FAILURE, True, 'restart = "on_failure", and it succeeded'),
    ],
)
def test_a_job_that_is_not_to_be_restarted_says_why(restart, succeeded, reason):
    life = Life(restart=restart)
    assert life.run(succeeded=succeeded) == Next(None, reason)
    assert life.restarts.count == 0


@pytest.mark.parametrize(
    ("restart", "succeeded"), [(Restart.ON_FAILURE, False), *((restart, succeeded) for restart in ALWAYS for succeeded in (True, False))]
)
def test_a_job_that_is_to_be_restarted_is(restart, succeeded):
    assert Life(restart=restart).run(succeeded=succeeded) == Next(1.0)


def test_each_restart_in_a_row_waits_twice_as_long_up_to_the_cap():
    life = Life(backoff_seconds=0.5, backoff_max_seconds=5)
    assert [life.run().delay_s for _ in range(4)] == [exact(0.5), exact(1), exact(2), exact(4)]
    assert all(4.5 <= life.run().delay_s <= 5 for _ in range(10))


@pytest.mark.parametrize(("number", "delay_s"), [(0.0, 9.0), (0.5, 10.0), (JUST_BELOW_1, 11.0)])
def test_chance_is_a_tenth(number, delay_s):
    assert Life(lambda: number, backoff_seconds=10).run().delay_s == exact(delay_s)


def test_the_cap_holds_after_chance_and_leaves_chance_there():
    delays = [Life(lambda number=number: number, backoff_seconds=60).run().delay_s for number in (0.0, 0.25, 0.5, 0.75, JUST_BELOW_1)]
    assert delays == sorted(set(delays))
    assert delays[0] == exact(54)
    assert delays[-1] <= 60


@pytest.mark.parametrize("maximum_s", [60.0, 1.7e308])
def test_thousands_of_restarts_do_not_overflow(maximum_s):
    life = Life(backoff_max_seconds=maximum_s)
    delays = [life.run().delay_s for _ in range(5000)]
    assert delays[-1] == exact(0.95 * maximum_s)
    assert life.restarts.count == 4999


def test_no_back_off_is_no_wait():
    life = Life(backoff_seconds=0)
    assert [life.run().delay_s for _ in range(3)] == [0, 0, 0]


def test_a_stable_run_begins_the_back_off_anew():
    life = Life(stable_seconds=10)
    assert [life.run(run_s).delay_s for run_s in (0, 9.9, 9.9, 10, 0)] == [exact(1), exact(2), exact(4), exact(1), exact(2)]


def test_a_back_off_is_no_part_of_a_run():
    life = Life(backoff_seconds=100, backoff_max_seconds=1000, stable_seconds=10)
    assert [life.run(1).delay_s for _ in range(3)] == [exact(100), exact(200), exact(400)]


def test_a_start_that_was_kept_waiting_is_no_run():
    """It waits for its turn after the back-off: the run begins with the start."""
    life = Life(stable_seconds=10)
    life.run()
    life.now_s += 3600
    assert life.run(1).delay_s == exact(2)


def test_without_a_window_the_limit_is_for_restarts_in_a_row():
    life = Life(max_restarts=2)
    assert [life.run() for _ in range(3)] == [Next(exact(1)), Next(exact(2)), Next(None, "2 restarts in a row", given_up=True)]
    assert life.restarts.count == 2


def test_a_stable_run_begins_the_limit_anew_where_it_has_no_window():
    life = Life(max_restarts=2, stable_seconds=10)
    assert all(life.run(run_s).delay_s for run_s in (0, 0, 10, 0, 10, 0))
    assert life.run() == Next(None, "2 restarts in a row", given_up=True)
    assert life.restarts.count == 6


def test_a_limit_within_a_window_is_reached():
    life = Life(max_restarts=3, restart_window_seconds=60)
    assert [life.run(1).delay_s for _ in range(3)] == [exact(1), exact(2), exact(4)]
    assert life.run(1) == Next(None, "3 restarts within 60 s", given_up=True)


def test_one_restart_is_worded_as_one():
    life = Life(max_restarts=1, restart_window_seconds=0.5, backoff_seconds=0)
    assert [life.run(), life.run()] == [Next(0), Next(None, "1 restart within 0.5 s", given_up=True)]


def test_the_window_slides():
    """Restarts at 10, 20, 30, ...: with 3 in 30 seconds there is room for each when it is due, with a little more there is not."""
    life = Life(max_restarts=3, restart_window_seconds=30, backoff_seconds=0)
    assert all(life.run(10).delay_s == 0 for _ in range(100))
    life = Life(max_restarts=3, restart_window_seconds=30.1, backoff_seconds=0)
    assert [life.run(10).delay_s for _ in range(4)] == [0, 0, 0, None]


def test_a_stable_run_does_not_lift_a_limit_within_a_window():
    life = Life(max_restarts=2, restart_window_seconds=60, stable_seconds=10, backoff_seconds=0)
    assert [life.run(15).delay_s for _ in range(3)] == [0, 0, None]


def test_a_restart_counts_when_it_is_made_not_when_it_is_decided():
    """Decided 70 seconds apart, made 11 seconds apart."""
    life = Life(max_restarts=1, restart_window_seconds=60, backoff_seconds=1, stable_seconds=10)
    life.run()
    life.now_s += 58  # kept waiting
    assert life.run(10) == Next(None, "1 restart within 60 s", given_up=True)


def test_what_is_not_made_is_not_counted():
    restarts = Restarts(Availability(Restart.ALWAYS), lambda: 0.5)
    restarts.started(0)
    assert restarts.ended(1, succeeded=False).delay_s
    assert restarts.count == 0
    restarts.started(2)
    assert restarts.count == 1


def test_a_start_that_nobody_decided_here_is_no_restart():
    """It had ended for good, and somebody wants it again."""
    life = Life(restart=Restart.ON_FAILURE)
    assert [life.run(succeeded=succeeded).delay_s for succeeded in (False, True)] == [exact(1), None]
    life.run()
    assert life.restarts.count == 1


def test_an_end_without_a_start_is_a_defect():
    restarts = Restarts(Availability(Restart.ALWAYS), lambda: 0.5)
    with pytest.raises(AssertionError, match=r"started\(\) comes before ended\(\)"):
        restarts.ended(0, succeeded=True)
    restarts.started(0)
    restarts.ended(0, succeeded=True)
    with pytest.raises(AssertionError):
        restarts.ended(0, succeeded=True)


SECONDS = st.one_of(st.integers(0, 100), st.floats(0, 1e6))


@st.composite
def policies(draw):
    backoff_s, maximum_s = sorted([draw(SECONDS), draw(SECONDS)])
    return Availability(
        draw(st.sampled_from([Restart.ON_FAILURE, *ALWAYS])),
        backoff_seconds=backoff_s,
        backoff_max_seconds=maximum_s,
        max_restarts=draw(st.integers(0, 5)),
        restart_window_seconds=draw(st.one_of(st.just(FOREVER), st.integers(1, 1000), st.floats(0.001, 1e6))),
        stable_seconds=draw(SECONDS),
    )


RUNS = st.lists(st.tuples(st.one_of(st.just(0), SECONDS), st.one_of(st.just(0), SECONDS), st.booleans()), max_size=60)
CHANCE = st.lists(st.floats(0, 1, exclude_max=True), min_size=1, max_size=5)


@given(policies(), RUNS, CHANCE)
def test_no_ends_whatever_lead_beyond_the_limits(policy, runs, chance):
    numbers = iter(chance * 60)
    restarts = Restarts(policy, lambda: next(numbers))
    now_s, in_a_row, made = 0.0, 0, []
    restarts.started(now_s)
    for run_s, late_s, succeeded in runs:
        started_s, now_s = now_s, now_s + run_s
        if now_s - started_s >= policy.stable_seconds:
            in_a_row = 0
        delay_s, reason, given_up = restarts.ended(now_s, succeeded=succeeded)
        assert (delay_s is None) == bool(reason)
        recent = made[-policy.max_restarts :]
        full = policy.max_restarts and len(recent) == policy.max_restarts
        base_s = min(policy.backoff_seconds * 2**in_a_row, policy.backoff_max_seconds)
        if delay_s is None:
            soonest_s = now_s + 0.9 * base_s * (1 - 1e-9)
            in_window = full and recent[0] > soonest_s - policy.restart_window_seconds
            too_many = in_a_row >= policy.max_restarts > 0 if policy.restart_window_seconds == FOREVER else in_window
            assert (succeeded and policy.restart is Restart.ON_FAILURE) or too_many
            break
        assert 0.9 * base_s * (1 - 1e-9) <= delay_s <= min(1.1 * base_s * (1 + 1e-9), policy.backoff_max_seconds)
        now_s += delay_s + late_s
        restarts.started(now_s)
        in_a_row += 1
        made.append(now_s)
        if policy.restart_window_seconds == FOREVER:
            assert in_a_row <= (policy.max_restarts or FOREVER)
        elif full:  # so many, and the one before them
            assert recent[0] <= now_s - policy.restart_window_seconds
        assert restarts.count == len(made)
        assert len(restarts._counted_s) <= policy.max_restarts  # what is remembered is bounded
