"""Owns the jobs file: from TOML to JobSpecs, with one clear error for whatever is wrong in it.

An error says: the file, the key path (``jobs.web.command``), what was expected and, for a key or
value that is nearly right, what was probably meant.
"""

from __future__ import annotations

import re
from collections import ChainMap
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from ..core.capture import CaptureSpec
from ..core.graph import check_dependencies
from ..core.outputs import OUTPUT_KEYS
from ..core.spec import JobSpec
from ..errors import ConfigError
from .documents import read_documents
from .environment import Environments, check_environment, for_jobs
from .layers import Layer, holder, merged_job, said_of, sub_tables, told_of
from .places import check_folder, check_outputs, make_outputs, resolve_paths
from .policies import make_availability, make_depends_on, make_health, make_privileges, make_shutdown, named
from .tables import JobTable
from .variables import JOB_NAME, JOB_REPLICA, expand_table, named_in_shell, resolve_vars
from .wrong import WrongError, convert

NAME_LENGTH = 100
"""Characters of a job's name, at most: it stands before each of its lines."""

MAX_REPLICAS = 10_000

NO_JOBS = "expected at least one [jobs.NAME] table with a command"

_CONTROL = re.compile("[\x00-\x1f\x7f-\x9f]")


@dataclass(frozen=True, slots=True)
class JobsFile:
    """What one or more files say. ``jobs``: in their order. ``max_parallel``: how many run at once, 0: no limit.

    ``replicas``: for each job with ``replicas`` the names of the jobs that it became.
    """

    jobs: tuple[JobSpec, ...]
    max_parallel: int = 0
    replicas: Mapping[str, tuple[str, ...]] = field(default_factory=dict)


def load(paths: Sequence[str], environment: Mapping[str, str]) -> JobsFile:
    """Read the files and what they include; a later file wins, tables are merged. ``environment``: what each job's own is added to.

    Raises ConfigError.
    """
    environment = for_jobs(environment)
    files = [Layer(path, folder, (), content) for path, folder, content in read_documents(paths)]
    max_parallel = _max_parallel(files)
    variables = _variables(files, environment)
    sources = list(_sources(files))
    if not sources:
        raise ConfigError(f"{paths[0]}: jobs: {NO_JOBS}")
    replicas = {source.name: names for source in sources if (names := _replica_names(source)) is not None}
    maker = _Maker(variables, environment, replicas)
    specs: list[JobSpec] = []
    made_from: dict[str, _Source] = {}
    for source in sources:
        for spec in maker.make(source):
            if made_from.setdefault(spec.name, source) is not source:
                path = ("replicas",) if source.name in replicas else ()
                raise said_of(source.layers, WrongError(path, f"there is another job {spec.name}"))
            specs.append(spec)
    _check_together(specs, made_from)
    return JobsFile(tuple(specs), max_parallel, replicas)


class _Source(NamedTuple):
    """A job as it is written: its tables in the files, and those of ``[defaults]``. Later ones win."""

    name: str
    defaults: Sequence[Layer]
    own: Sequence[Layer]

    @property
    def layers(self) -> Sequence[Layer]:
        return (*self.defaults, *self.own)


def _sources(files: Sequence[Layer]) -> Iterator[_Source]:
    """The jobs, in the order in which they are first named. Raises ConfigError."""
    defaults = _typed(sub_tables(files, "defaults"))
    tables = []
    for file in files:
        jobs = file.table.get("jobs", {})
        if not isinstance(jobs, dict):
            raise ConfigError(f"{file.file}: jobs: {NO_JOBS}")
        with told_of([file]):
            for name in jobs:
                _check_name(name)
        tables.append(Layer(file.file, file.folder, ("jobs",), jobs))
    for name in dict.fromkeys(name for layer in tables for name in layer.table):
        yield _Source(name, defaults, _typed(sub_tables(tables, name)))


def _typed(layers: Sequence[Layer]) -> Sequence[Layer]:
    """The tables, whose keys and types are right, whether they are used or not, and whatever is in the variables. Raises ConfigError."""
    for layer in layers:
        with told_of([layer]):
            convert((), layer.table, JobTable)
    return layers


def _check_name(name: str) -> None:
    if not 1 <= len(name) <= NAME_LENGTH or "/" in name or _CONTROL.search(name) or name in (".", ".."):
        text = "a job's name must be usable as a file name: 1 to 100 characters, no slash, no control characters, not . or .."
        raise WrongError(("jobs", name), text)


def _max_parallel(files: Sequence[Layer]) -> int:
    path = ("max_parallel",)
    number = 0
    for file in files:
        with told_of([file]):
            number = convert(path, file.table.get("max_parallel", number), int)
            if number < 0:
                raise WrongError(path, f"expected 0 (no limit) or more, got {number}")
    return number


def _variables(files: Sequence[Layer], environment: Mapping[str, str]) -> dict[str, str]:
    tables = sub_tables(files, "vars")
    with told_of(tables):
        return resolve_vars({name: value for layer in tables for name, value in layer.table.items()}, environment)


def _replica_names(source: _Source) -> tuple[str, ...] | None:
    """The jobs that a job with ``replicas`` becomes; None without."""
    path = ("replicas",)
    count = holder(source.layers, path).table.get("replicas")
    if count is None:
        return None
    with told_of(source.layers):
        if not 1 <= convert(path, count, int) <= MAX_REPLICAS:
            raise WrongError(path, f"expected 1 to {MAX_REPLICAS}, got {count}; a job with disabled = true is not started")
        if len(f"{source.name}-{count}") > NAME_LENGTH:
            raise WrongError(path, f"the name {source.name}-{count} would be longer than {NAME_LENGTH} characters")
    return tuple(f"{source.name}-{number}" for number in range(1, count + 1))


class _Maker:
    """Makes the JobSpecs of what was read."""

    def __init__(self, variables: Mapping[str, str], environment: Mapping[str, str], replicas: Mapping[str, tuple[str, ...]]) -> None:
        self._variables = variables
        self._ours = environment
        self._environments = Environments(environment)
        self._replicas = replicas

    def make(self, source: _Source) -> list[JobSpec]:
        """The job, or its replicas. Raises ConfigError."""
        table = merged_job(source.defaults, source.own)
        names = self._replicas.get(source.name)
        if names is None:
            givens = [{JOB_NAME: source.name}]
        else:
            givens = [{JOB_NAME: name, JOB_REPLICA: str(number)} for number, name in enumerate(names, 1)]
        with told_of(source.layers):
            return [self._spec(source.layers, table, given) for given in givens]

    def _spec(self, layers: Sequence[Layer], merged: Mapping[str, Any], given: dict[str, str]) -> JobSpec:
        """``given``: the variables that are the job's own. Raises WrongError."""
        table = expand_table(merged, ChainMap(given, self._variables, self._ours))  # type: ignore[arg-type]
        resolve_paths(table, layers)
        job = convert((), table, JobTable)
        if job.command is None:
            raise WrongError(("command",), "missing: expected a string for the shell or a list of a command and its arguments")
        check_folder(("working_dir",), job.working_dir)
        with named(()):
            return JobSpec(
                given[JOB_NAME],
                job.command,
                job.working_dir,
                self._environment(job, table, given),
                tuple(make_outputs(job)),
                quiet=job.quiet,
                capture=CaptureSpec(job.capture, job.watch_fds, job.no_new_privs, job.interactive, job.stderr_apart),
                wait_for=job.wait_for,
                linger_s=job.linger_s,
                die_with_supervisor=job.die_with_supervisor,
                description=job.description,
                disabled=job.disabled,
                depends_on=make_depends_on(job, self._replicas),
                health=make_health(job),
                availability=make_availability(job.availability),
                success_exit_codes=tuple(job.success_exit_codes),
                shutdown=make_shutdown(job.shutdown),
                privileges=make_privileges(job),
            )

    def _environment(self, job: JobTable, table: Mapping[str, Any], given: Mapping[str, str]) -> Mapping[str, str]:
        """A replica has its name and number there; and the shell finds there what its text names."""
        own = {name: str(value) for name, value in job.environment.items()}
        check_environment(("environment",), own)
        known = {**self._variables, **given}
        for_shell = {name: known[name] for name in named_in_shell(table) if name in known}
        of_replica = given if JOB_REPLICA in given else {}
        return self._environments.make({**of_replica, **own}, [job.env_file] if isinstance(job.env_file, str) else job.env_file, for_shell)


def _check_together(specs: Sequence[JobSpec], sources: Mapping[str, _Source]) -> None:
    """What can be wrong between jobs. Raises ConfigError."""
    try:
        check_outputs(specs)
        _check_interactive(specs)
    except WrongError as error:
        source = sources[str(error.path[1])]
        layer = holder(source.layers, error.path[2:])
        for_several = error.path[2] in OUTPUT_KEYS and (layer in source.defaults or source.name not in sources)
        hint = f", with ${{{JOB_NAME}}} in its path" if for_several else ""
        raise ConfigError(f"{layer.file}: {error}{hint}") from error
    try:
        check_dependencies(specs, chosen=False)
    except ConfigError as error:
        meant = (source for name, source in sources.items() if str(error).startswith(f"jobs.{name}.depends_on."))
        layers = next(meant, sources[specs[0].name]).layers
        raise ConfigError(f"{holder(layers, ('depends_on',)).file}: {error}") from error


def _check_interactive(specs: Sequence[JobSpec]) -> None:
    names = [spec.name for spec in specs if spec.capture.interactive]
    if len(names) > 1:
        raise WrongError(("jobs", names[1], "interactive"), f"there is one terminal, and it is for jobs.{names[0]} already")
