"""Owns who waits for whom: what is wrong with the dependencies of jobs, their order, and the choice of some of them.

Nothing here recurses, and all takes linear time: ten thousand jobs may stand in one chain.
"""

from __future__ import annotations

import difflib
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import replace

from ..errors import ConfigError
from .policy import Condition, Restart
from .spec import JobSpec

SHOWN = 10
"""How many names an error lists, at most."""


def check_dependencies(specs: Sequence[JobSpec], *, chosen: bool = True) -> None:
    """That each job can start one day. Raises ConfigError, whose text begins with the key path: ``jobs.web.depends_on.db: ...``.

    ``chosen``: these are the jobs that are to run. Before select() a job may depend on one that is disabled, as that may enable it.
    """
    jobs = {spec.name: spec for spec in specs}
    for spec in specs:
        for name, condition in spec.depends_on.items():
            if name not in jobs:
                problem = _unknown(name, list(jobs))
            elif name == spec.name:
                problem = "a job cannot wait for itself"
            elif chosen and jobs[name].disabled and not spec.disabled:
                problem = f"{name} is disabled: enable it, or choose it by its name"
            else:
                problem = never(jobs[name], condition)
            if problem:
                raise ConfigError(f"{_key(spec.name, name)}: {problem}")
    start_order(specs)


def start_order(specs: Sequence[JobSpec]) -> list[list[str]]:
    """The jobs in waves: each depends on jobs of the waves before its own only, on one of the last of them. Names are in file order.

    Every dependency has to be there. Raises ConfigError for a cycle, as check_dependencies().
    """
    waiting_for = {spec.name: len(spec.depends_on) for spec in specs}
    below = dependents(specs)
    wave_of = {name: 0 for name, count in waiting_for.items() if not count}
    free = list(wave_of)
    for name in free:  # it grows meanwhile
        for dependent in below[name]:
            waiting_for[dependent] -= 1
            if not waiting_for[dependent]:
                wave_of[dependent] = wave_of[name] + 1
                free.append(dependent)
    if len(free) < len(specs):
        cycle = _cycle({spec.name: spec for spec in specs if spec.name not in wave_of})
        raise ConfigError(f"{_key(cycle[0], cycle[1])}: a cycle, in which none could start: {' -> '.join(cycle)}")
    waves: list[list[str]] = [[] for _ in range(max(wave_of.values(), default=-1) + 1)]
    for spec in specs:
        waves[wave_of[spec.name]].append(spec.name)
    return waves


def dependents(specs: Sequence[JobSpec]) -> dict[str, tuple[str, ...]]:
    """For each job those that depend on it, in file order. Every dependency has to be there."""
    found: dict[str, list[str]] = {spec.name: [] for spec in specs}
    for spec in specs:
        for name in spec.depends_on:
            found[name].append(spec.name)
    return {name: tuple(names) for name, names in found.items()}


def select(
    specs: Sequence[JobSpec],
    names: Sequence[str],
    *,
    with_dependencies: bool,
    excluded: Collection[str] = (),
    replicas: Mapping[str, Sequence[str]] | None = None,
) -> list[JobSpec]:
    """The jobs that are chosen, in file order: those of ``names``, all that they depend on, but not the ``excluded``.

    No names: all that are not disabled; a job that is named is enabled. ``replicas``: the jobs of a name
    that stands for several. A chosen job depends no more on one that is there and is not chosen.
    Raises ConfigError for a name that no job has. check_dependencies() is for what came of it.
    """
    jobs = {spec.name: spec for spec in specs}
    named = set(_resolve(names, jobs, replicas or {}))
    chosen = named if names else {spec.name for spec in specs if not spec.disabled}
    if with_dependencies:
        chosen = _closure(chosen, jobs)
    chosen = chosen.difference(_resolve(excluded, jobs, replicas or {}))
    return [_selected(spec, named, chosen, jobs) for spec in specs if spec.name in chosen]


def _selected(spec: JobSpec, named: Collection[str], chosen: Collection[str], jobs: Collection[str]) -> JobSpec:
    kept = {name: condition for name, condition in spec.depends_on.items() if name in chosen or name not in jobs}
    disabled = spec.disabled and spec.name not in named
    if len(kept) == len(spec.depends_on) and disabled == spec.disabled:
        return spec
    return replace(spec, depends_on=kept, disabled=disabled)


def _resolve(names: Collection[str], jobs: Mapping[str, JobSpec], replicas: Mapping[str, Sequence[str]]) -> Iterator[str]:
    """The names of the jobs that are meant."""
    for name in names:
        if name in jobs:
            yield name
        elif name in replicas:
            yield from replicas[name]
        else:
            raise ConfigError(f"{name}: {_unknown(name, [*jobs, *replicas])}")


def _closure(names: Collection[str], jobs: Mapping[str, JobSpec]) -> set[str]:
    """The names, and all that they depend on, as far as it is there."""
    found = set(names)
    left = list(names)
    while left:
        for name in jobs[left.pop()].depends_on:
            if name in jobs and name not in found:
                found.add(name)
                left.append(name)
    return found


def _cycle(waiting: Mapping[str, JobSpec]) -> list[str]:
    """A cycle among jobs that each wait for another one of them; its first name is its last too."""
    name = next(iter(waiting))
    place: dict[str, int] = {}
    while name not in place:
        place[name] = len(place)
        name = next(dependency for dependency in waiting[name].depends_on if dependency in waiting)
    return [*list(place)[place[name] :], name]


def never(job: JobSpec, condition: Condition) -> str:
    """Why the condition can never come true; empty: it can."""
    match condition:
        case Condition.LOG_READY if not job.health.ready_log_line:
            return f"{condition} can never come true: {job.name} has no ready_log_line"
        case Condition.HEALTHY if not job.health.tells_health:
            return f"{condition} can never come true: {job.name} has no probe, no sd_notify and no notification_fd"
        case Condition.COMPLETED | Condition.COMPLETED_SUCCESSFULLY if job.availability.restart in (Restart.ALWAYS, Restart.UNLESS_STOPPED):
            return f'{condition} can never come true: {job.name} has restart = "{job.availability.restart}"'
    return ""


def _unknown(name: str, known: Sequence[str]) -> str:
    if close := difflib.get_close_matches(name, known, n=1):
        return f"no job has this name; did you mean {close[0]}?"
    return f"no job has this name; there are: {', '.join(known[:SHOWN])}" + (", ..." if len(known) > SHOWN else "")


def _key(name: str, dependency: str) -> str:
    return f"jobs.{name}.depends_on.{dependency}"
