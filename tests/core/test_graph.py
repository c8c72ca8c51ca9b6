"""Who waits for whom: everything that is refused, the order, the choice; against the standard library's own sorter."""

from __future__ import annotations

import graphlib
import sys
from dataclasses import replace
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dtee_async.core.graph import check_dependencies, dependents, select, start_order
from dtee_async.core.policy import Availability, Condition, Health, HttpCheck, Probe, Restart
from dtee_async.core.spec import JobSpec
from dtee_async.errors import ConfigError

PROBE = Probe(HttpCheck("http://127.0.0.1/", {}))
MANY = 10_000


def job(name, *depends_on, condition=Condition.STARTED, **more):
    return JobSpec(name, "true", depends_on=dict.fromkeys(depends_on, condition), **more)


def refused(*specs):
    with pytest.raises(ConfigError) as found:
        check_dependencies(specs)
    return str(found.value)


def names(specs):
    return [spec.name for spec in specs]


STACK = (job("web", "db", "migration"), job("db"), job("migration", "db"), job("worker", "web"), job("mail"))


def test_what_is_right_is_accepted():
    check_dependencies(STACK)
    check_dependencies([])


@pytest.mark.parametrize(
    ("name", "hint"),
    [("dbs", "did you mean db?"), ("migrations", "did you mean migration?"), ("zzz", "there are: web, db, migration, worker, mail, api")],
)
def test_a_name_that_no_job_has_is_refused(name, hint):
    assert refused(*STACK, job("api", "db", name)) == f"jobs.api.depends_on.{name}: no job has this name; {hint}"


def test_of_very_many_jobs_some_are_listed():
    assert refused(*(job(f"job{i}") for i in range(20)), job("z", "zzz")).endswith(
        "there are: job0, job1, job2, job3, job4, job5, job6, job7, job8, job9, ..."
    )


def test_a_job_cannot_wait_for_itself():
    assert refused(*STACK, job("api", "db", "api")) == "jobs.api.depends_on.api: a job cannot wait for itself"


def test_a_cycle_is_refused_with_its_path():
    text = refused(job("x", "a"), job("a", "mail", "b"), job("b", "c"), job("c", "mail", "a"), job("mail"))
    assert text == "jobs.a.depends_on.b: a cycle, in which none could start: a -> b -> c -> a"


def test_a_job_that_is_to_run_cannot_wait_for_a_disabled_one():
    text = refused(job("web", "db"), job("db", disabled=True))
    assert text == "jobs.web.depends_on.db: db is disabled: enable it, or choose it by its name"
    check_dependencies([job("web", "db", disabled=True), job("db", disabled=True)])


@pytest.mark.parametrize("health", [Health(), Health(readiness_probe=PROBE), Health(sd_notify=True)])
def test_a_job_without_a_ready_log_line_can_never_be_log_ready(health):
    text = refused(job("web", "db", condition=Condition.LOG_READY), job("db", health=health))
    assert text == "jobs.web.depends_on.db: process_log_ready can never come true: db has no ready_log_line"


@pytest.mark.parametrize("health", [Health(), Health(ready_log_line="ready")])
def test_a_job_that_tells_no_health_can_never_be_healthy(health):
    text = refused(job("web", "db", condition=Condition.HEALTHY), job("db", health=health))
    assert text.startswith("jobs.web.depends_on.db: process_healthy can never come true: db has no probe, no sd_notify and no notif")


@pytest.mark.parametrize("condition", [Condition.COMPLETED, Condition.COMPLETED_SUCCESSFULLY])
@pytest.mark.parametrize("restart", [Restart.ALWAYS, Restart.UNLESS_STOPPED])
def test_a_job_that_restarts_always_never_completes(condition, restart):
    text = refused(job("web", "db", condition=condition), job("db", availability=Availability(restart)))
    assert text == f'jobs.web.depends_on.db: {condition} can never come true: db has restart = "{restart}"'


@pytest.mark.parametrize(
    ("condition", "db"),
    [
        (Condition.LOG_READY, {"health": Health(ready_log_line="ready")}),
        *(
            (Condition.HEALTHY, {"health": health})
            for health in (
                Health(readiness_probe=PROBE),
                Health(startup_probe=PROBE),
                Health(liveness_probe=PROBE),
                Health(sd_notify=True),
                Health(notification_fd=3),
            )
        ),
        *(
            (condition, {"availability": Availability(restart)})
            for condition in (Condition.COMPLETED, Condition.COMPLETED_SUCCESSFULLY)
            for restart in (Restart.NO, Restart.ON_FAILURE, Restart.EXIT_ON_FAILURE)
        ),
        (Condition.STARTED, {"availability": Availability(Restart.ALWAYS)}),
    ],
)
def test_a_condition_that_can_come_true_is_accepted(condition, db):
    check_dependencies([job("web", "db", condition=condition), job("db", **db)])


def test_independent_jobs_start_at_once_in_file_order():
    assert start_order(STACK) == [["db", "mail"], ["migration"], ["web"], ["worker"]]
    assert start_order([]) == []


def test_who_depends_on_a_job_is_known():
    assert dependents(STACK) == {"web": ("worker",), "db": ("web", "migration"), "migration": ("web",), "worker": (), "mail": ()}


@st.composite
def graphs(draw, *, cyclic=True):
    """Jobs in any file order, that depend on any others, or on those that come before them in some other order."""
    count = draw(st.integers(0, 9))
    edges = draw(st.sets(st.tuples(st.integers(0, 8), st.integers(0, 8)), max_size=25))
    edges = {(a, b) for a, b in edges if a < count and b < count and (a != b if cyclic else a > b)}
    specs = [job(f"j{i}", *(f"j{b}" for a, b in sorted(edges) if a == i)) for i in range(count)]
    return draw(st.permutations(specs))


def sorted_by_the_library(specs):
    """The waves; None for a cycle."""
    sorter = graphlib.TopologicalSorter({spec.name: list(spec.depends_on) for spec in specs})
    waves = []
    try:
        sorter.prepare()
    except graphlib.CycleError:
        return None
    while sorter:
        waves.append(sorter.get_ready())
        sorter.done(*waves[-1])
    place = names(specs).index
    return [sorted(wave, key=place) for wave in waves]


@given(graphs())
def test_the_order_is_that_of_the_library_and_what_is_called_a_cycle_is_one(specs):
    expected = sorted_by_the_library(specs)
    if expected is not None:
        check_dependencies(specs)
        assert start_order(specs) == expected
        return
    key, _, text = refused(*specs).partition(": ")
    cycle = text.rpartition(": ")[2].split(" -> ")
    depends_on = {spec.name: spec.depends_on for spec in specs}
    assert all(after in depends_on[before] for before, after in pairwise(cycle))
    assert cycle[0] == cycle[-1]
    assert len(set(cycle)) == len(cycle) - 1 >= 2
    assert key == f"jobs.{cycle[0]}.depends_on.{cycle[1]}"


@given(graphs())
def test_dependents_are_the_dependencies_turned_round(specs):
    found = dependents(specs)
    assert list(found) == names(specs)
    assert all(found[name] == tuple(spec.name for spec in specs if name in spec.depends_on) for name in found)


# The choice of jobs.


def chosen(*words, specs=STACK, with_dependencies=True, excluded=(), replicas=None):
    return select(specs, words, with_dependencies=with_dependencies, excluded=excluded, replicas=replicas)


def test_no_names_are_all_jobs_as_they_are():
    assert all(found is given for found, given in zip(chosen(), STACK, strict=True))
    assert len(chosen(with_dependencies=False)) == len(STACK)


def test_a_job_comes_with_what_it_depends_on_in_file_order():
    assert names(chosen("migration")) == ["db", "migration"]
    assert names(chosen("worker")) == ["web", "db", "migration", "worker"]
    assert names(chosen("mail", "db", "mail")) == ["db", "mail"]


def test_a_job_comes_alone_and_waits_for_none_that_does_not_come():
    assert chosen("web", with_dependencies=False) == [job("web")]
    assert chosen("migration", "web", with_dependencies=False) == [job("web", "migration"), job("migration")]


def test_what_is_excluded_does_not_come_and_nobody_waits_for_it():
    assert chosen(excluded=["db"]) == [job("web", "migration"), job("migration"), STACK[3], STACK[4]]


def test_what_the_excluded_depend_on_comes_with_them_left_out():
    """Somebody runs it elsewhere, in a debugger: it needs its database there."""
    assert names(chosen("worker", excluded=["web"])) == ["db", "migration", "worker"]


def test_who_is_named_and_excluded_is_excluded():
    assert names(chosen("mail", "db", excluded=["mail"])) == ["db"]


DISABLED = (job("web", "db"), job("db"), job("debug", "db", disabled=True))


def test_a_disabled_job_comes_only_if_it_is_named_and_is_enabled_then():
    assert names(chosen(specs=DISABLED)) == ["web", "db"]
    assert chosen("debug", specs=DISABLED) == [job("db"), job("debug", "db")]


def test_a_disabled_job_that_a_chosen_one_depends_on_is_there_to_be_refused_or_named_or_left_out():
    specs = [job("web", "db"), job("db", disabled=True)]
    assert refused(*chosen("web", specs=specs)).startswith("jobs.web.depends_on.db: db is disabled")
    for right in (
        chosen("web", "db", specs=specs),
        chosen("web", specs=specs, excluded=["db"]),
        chosen("web", specs=specs, with_dependencies=False),
    ):
        check_dependencies(right)


def test_a_dependency_that_no_job_has_is_kept_to_be_refused():
    specs = [job("web", "bd"), job("db")]
    assert refused(*chosen("web", specs=specs)).startswith("jobs.web.depends_on.bd: no job has this name")


@pytest.mark.parametrize("where", ["names", "excluded"])
@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("wokrer", "wokrer: no job has this name; did you mean worker?"),
        ("apii", "apii: no job has this name; did you mean api?"),
        ("#", "#: no job has this name; there are: web, db, migration, worker, mail, api"),
    ],
)
def test_a_name_on_the_command_line_that_no_job_has_is_refused(where, name, text):
    with pytest.raises(ConfigError) as found:
        chosen(*([name] if where == "names" else []), excluded=[name] if where == "excluded" else (), replicas={"api": ["web"]})
    assert str(found.value) == text


REPLICAS = (job("lb", "web-1", "web-2"), job("web-1", "db"), job("web-2", "db"), job("db"))


@pytest.mark.parametrize(
    ("words", "excluded", "expected"),
    [
        (["web"], [], ["web-1", "web-2", "db"]),
        (["web-2"], [], ["web-2", "db"]),
        (["web"], ["web-1"], ["web-2", "db"]),
        ([], ["web"], ["lb", "db"]),
        (["none"], [], []),
    ],
)
def test_a_name_stands_for_its_replicas(words, excluded, expected):
    found = chosen(*words, specs=REPLICAS, excluded=excluded, replicas={"web": ["web-1", "web-2"], "none": []})
    assert names(found) == expected


@given(graphs(), st.data(), st.booleans())
def test_the_choice_is_what_can_be_reached(specs, data, with_dependencies):
    specs = [replace(spec, disabled=data.draw(st.booleans())) for spec in specs]
    some = st.lists(st.sampled_from(names(specs)), max_size=3) if specs else st.just([])
    words, excluded = data.draw(some), data.draw(some)
    found = select(specs, words, with_dependencies=with_dependencies, excluded=excluded)
    reached = set(words) or {spec.name for spec in specs if not spec.disabled}
    for _ in specs if with_dependencies else ():
        reached |= {name for spec in specs if spec.name in reached for name in spec.depends_on}
    assert names(found) == [spec.name for spec in specs if spec.name in reached - set(excluded)]
    given = {spec.name: spec for spec in specs}
    for spec in found:
        assert spec.depends_on.keys() == given[spec.name].depends_on.keys() & set(names(found))
        assert spec.disabled == (given[spec.name].disabled and spec.name not in words)
        assert replace(spec, depends_on={}, disabled=False) == replace(given[spec.name], depends_on={}, disabled=False)


# Very many jobs.

CHAIN = [job(f"j{i}", *([f"j{i + 1}"] if i + 1 < MANY else [])) for i in range(MANY)]


@pytest.mark.parametrize("specs", [CHAIN, CHAIN[::-1]], ids=["down", "up"])
def test_a_chain_much_longer_than_recursion_goes(specs):
    assert sys.getrecursionlimit() < MANY
    check_dependencies(specs)
    assert start_order(specs) == [[f"j{i}"] for i in reversed(range(MANY))]
    assert select(specs, ["j0"], with_dependencies=True) == specs


def test_a_cycle_much_longer_than_recursion_goes():
    assert refused(*CHAIN[:-1], job(f"j{MANY - 1}", "j0")).count(" -> ") == MANY
