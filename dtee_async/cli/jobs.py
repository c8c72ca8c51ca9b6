"""Owns ``--jobs``: a file of commands run at once, on our own stdout and stderr, until all have ended or we are told to stop."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

import anyio

from ..config.jobsfile import JobsFile, load
from ..core.graph import check_dependencies, select, start_order
from ..core.policy import Restart
from ..core.write import Stream
from ..engine.captures import Captures
from ..engine.fanin import NOBODY_LISTENS, FanIn, open_fans
from ..engine.keyboard import window_size
from ..engine.pumps import PumpProcess
from ..engine.terminal import JobTerminal
from ..errors import ConfigError, OutputError
from ..output.count import CountOutput, Counts
from ..output.spool import SpoolOutput
from ..process.descendants import Family
from ..process.fdlimit import FdLimit
from ..process.group import die_by
from ..process.orphans import OrphanReaper, become_subreaper
from ..process.stdio import fill_missing
from ..supervisor.events import Event, JobExited, JobStarted, OutputLost
from ..supervisor.files import JobFiles, open_all
from ..supervisor.job import Surroundings
from ..supervisor.stop import Census
from ..supervisor.supervisor import Supervisor
from .log import ERROR, INFO, Log, prefixes, use_colour
from .status import EX_CANTCREAT, EX_CONFIG, EX_IOERR
from .summary import fields, summary, went_well
from .text import _, ngettext, say, worded

if TYPE_CHECKING:
    from ..core.contracts import Output
    from ..core.spec import JobSpec
    from .parse import Options

STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT)
FAREWELL_S = 0.1
"""How long our own stdout and stderr may take for the last lines after a stop that has used up its time."""


def run_jobs(options: Options, print_out: Callable[[str], int]) -> int:
    """Run the jobs of the files; the exit status, unless we have to die by a signal. ``print_out``: for what --check says."""
    try:
        jobs = _chosen(options)
    except ConfigError as error:
        say(f"{options.prog}: {error}\n")
        return EX_CONFIG
    if "check" in options.flags:
        return print_out(_checked(options, jobs.jobs))
    fill_missing(0)  # libuv closes no fd that is 0, 1 or 2, and aborts
    run = _Run(options, jobs)
    with asyncio.Runner(loop_factory=_loop_factory(options)) as runner:
        status = runner.run(run.main())
    if run.stopped_by is not None:
        die_by(run.stopped_by)
    return status


def schema_text() -> str:
    """The JSON Schema of a jobs file."""
    import json

    from ..config.schema import schema

    return json.dumps(schema(), indent=2) + "\n"


def _chosen(options: Options) -> JobsFile:
    """The jobs of the files that are to run. Raises ConfigError."""
    if "procfile" in options.values:
        from ..config.procfile import load_procfile

        file = load_procfile(options.values["procfile"], os.environ)
    else:
        file = load(options.lists["jobs"], os.environ)
    jobs = tuple(
        select(
            file.jobs,
            options.command,
            with_dependencies="no_deps" not in options.flags,
            excluded=options.lists.get("except", ()),
            replicas=file.replicas,
        )
    )
    if not jobs:
        raise ConfigError(_("no job is left to run: all are disabled or left out"))
    check_dependencies(jobs)
    return replace(file, jobs=jobs, max_parallel=int(options.values.get("max_parallel", file.max_parallel)))


def _checked(options: Options, jobs: Sequence[JobSpec]) -> str:
    """What --check says: that nothing is wrong, and who starts after whom."""
    path = ", ".join(options.lists.get("jobs", ())) or options.values["procfile"]
    text = ngettext("{path}: {count} job, nothing wrong", "{path}: {count} jobs, nothing wrong", len(jobs))
    lines = [text.format(path=path, count=len(jobs))]
    waves = start_order(jobs)
    if len(waves) > 1:
        lines += [f"{number}. {' '.join(names)}" for number, names in enumerate(waves, 1)]
    return "\n".join(lines) + "\n"


def _loop_factory(options: Options) -> type[asyncio.AbstractEventLoop] | None:
    if options.values.get("loop") == "asyncio":
        return asyncio.SelectorEventLoop
    try:
        import uvloop
    except ImportError:
        return None
    return uvloop.Loop


class _JobOutlets:
    """Where a job's output goes: to its lines on our own stdout and stderr, and to its files; and it is counted."""

    def __init__(self, spec: JobSpec, terminal: Callable[[], JobTerminal], files: JobFiles) -> None:
        self.counts = Counts()
        self._spec = spec
        self._terminal = terminal
        self._files = files

    def open(self) -> list[Output]:
        """The outputs of one run. Raises OutputError."""
        terminal = self._terminal()
        last = self._spec.availability.restart in (Restart.NO, Restart.EXIT_ON_FAILURE)
        files = self._files.open(last=last)
        return [SpoolOutput(terminal) if self._spec.quiet else terminal, *files, CountOutput(self.counts)]

    def close(self) -> None:
        """There will be no further run."""
        self._files.close()


class _Run:
    def __init__(self, options: Options, jobs: JobsFile) -> None:
        self.stopped_by: int | None = None
        self._options = options
        self._jobs = jobs
        self._lossy: list[str] = []
        self._quiet = {spec.name for spec in jobs.jobs if spec.quiet}
        self._failed_output = False
        self._supervisor: Supervisor | None = None

    async def main(self) -> int:
        loop = asyncio.get_running_loop()
        family = Family()
        pumps = PumpProcess(loop, family.add)
        specs = self._jobs.jobs
        fd_limit = FdLimit()
        try:
            files = open_all(specs, pumps)
        except OutputError as error:
            say(f"{self._options.prog}: {worded(error)}\n")
            return EX_CANTCREAT
        fans = open_fans(loop, pumps, self._own_output_failed)
        self._log = Log(
            fans[Stream.STDERR], self._options.values.get("log_format", "console"), colour=use_colour(os.environ, is_tty=os.isatty(2))
        )
        marks = prefixes([spec.name for spec in specs], colour=use_colour(os.environ, is_tty=os.isatty(1)))
        outlets = {spec.name: _JobOutlets(spec, partial(JobTerminal, loop, fans, *marks[spec.name]), files[spec.name]) for spec in specs}
        captures = Captures(keep=True)
        census = Census(loop, family) if become_subreaper() else None
        self._supervisor = Supervisor(
            loop,
            captures,
            [(spec, outlets[spec.name]) for spec in specs],
            self._tell,
            max_parallel=self._jobs.max_parallel,
            surroundings=Surroundings(census=census, fd_limit=fd_limit),
        )
        reaper = OrphanReaper(loop, family.is_ours)
        self._listen(loop, self._supervisor)
        status = await self._supervisor.run()
        self._log.say(INFO, "all jobs ended", jobs=len(specs), status=status, **self._lost())
        self._summarise({name: each.counts for name, each in outlets.items()})
        await self._farewell(self._supervisor, set(fans.values()))
        self.stopped_by = self._supervisor.stopped_by
        pumps.close()
        captures.close()
        reaper.close()
        return status or (EX_IOERR if self._failed_output else 0)

    def _summarise(self, counts: Mapping[str, Counts]) -> None:
        """What became of each job, unless nobody wants to know."""
        assert self._supervisor is not None
        if "no_summary" in self._options.flags:
            return
        services = [each for each in self._supervisor.services if each.spec.name not in self._quiet or not went_well(each)]
        if not services:
            return
        if self._options.values.get("log_format") == "json":
            for service in services:
                self._log.say(INFO, "job summary", **fields(service, counts[service.spec.name]))
        else:
            self._log.show(summary(services, counts, colour=use_colour(os.environ, is_tty=os.isatty(2))))

    def _listen(self, loop: asyncio.AbstractEventLoop, supervisor: Supervisor) -> None:
        for number in STOP_SIGNALS:
            if signal.getsignal(number) is not signal.SIG_IGN:  # nohup, or a shell's background job
                loop.add_signal_handler(number, self._caught, supervisor, number)

        loop.add_signal_handler(signal.SIGWINCH, self._resized, supervisor)

    def _resized(self, supervisor: Supervisor) -> None:
        if size := window_size():
            supervisor.resize(*size)

    def _caught(self, supervisor: Supervisor, number: int) -> None:
        supervisor.stop(number)
        if number == signal.SIGQUIT:
            supervisor.kill()

    def _lost(self) -> dict[str, object]:
        return {"output_may_be_lost": self._lossy} if self._lossy else {}

    def _tell(self, event: Event) -> None:
        match event:
            case OutputLost(job):
                self._lossy.append(job)
            case JobStarted(job) if job in self._quiet:
                return
            case JobExited(job, exit) if job in self._quiet and exit.returncode == 0:
                return
        self._log.tell(event)

    def _own_output_failed(self, error: OSError) -> None:
        """Nobody reads our stdout or stderr any more, or it cannot be written."""
        self._failed_output = True
        if error.errno in NOBODY_LISTENS and self._supervisor is not None:
            if self._supervisor.stopped_by is None:
                self._supervisor.stop(signal.SIGPIPE)
        else:
            self._log.say(ERROR, "own output failed", error=error.strerror)

    async def _farewell(self, supervisor: Supervisor, fans: set[FanIn]) -> None:
        """Let the last lines through; after a stop, or when one comes now, only within its time."""
        through = {fan: anyio.Event() for fan in fans}
        for fan, event in through.items():
            fan.end(event.set)

        async def give_up() -> None:
            await supervisor.wait_stopping()
            with anyio.move_on_after(max(FAREWELL_S, supervisor.deadline_s - anyio.current_time())):
                for event in through.values():
                    await event.wait()
            group.cancel_scope.cancel()

        async with anyio.create_task_group() as group:
            group.start_soon(give_up)
            for event in through.values():
                await event.wait()
            group.cancel_scope.cancel()
        for fan in fans:
            fan.close()
        lost_bytes = sum(fan.lost_bytes for fan in fans)
        if lost_bytes:
            self._failed_output = True
            text = ngettext("{count} byte of output was not shown", "{count} bytes of output were not shown", lost_bytes)
            _try_to_say(f"{self._options.prog}: {text.format(count=lost_bytes)}\n")


def _try_to_say(text: str) -> None:
    """To stderr if it takes it now: we are leaving, and it may be what was stuck."""
    import select

    if select.select([], [2], [], 0)[1]:
        say(text)
