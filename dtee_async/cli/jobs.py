"""Owns ``--jobs``: a file of commands run at once, on our own stdout and stderr, until all have ended or we are told to stop."""

from __future__ import annotations

import asyncio
import os
import signal
from typing import TYPE_CHECKING

import anyio

from ..core.spec import JobSpec
from ..core.write import Stream
from ..engine.captures import Captures
from ..engine.fanin import NOBODY_LISTENS, FanIn, open_fans
from ..engine.keyboard import window_size
from ..engine.pumps import PumpProcess
from ..engine.terminal import JobTerminal
from ..errors import ConfigError, OutputError
from ..output.spool import SpoolOutput
from ..process.group import die_by
from ..supervisor.events import Event, JobExited, JobStarted, OutputLost
from ..supervisor.files import open_all
from ..supervisor.jobsfile import load_jobs
from ..supervisor.supervisor import Supervisor
from .log import ERROR, INFO, Log, prefixes, use_colour
from .status import EX_CANTCREAT, EX_CONFIG, EX_IOERR
from .text import ngettext

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ..core.contracts import Output
    from .parse import Options

STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT)
FAREWELL_S = 0.1
"""How long our own stdout and stderr may take for the last lines after a stop that has used up its time."""


def run_jobs(options: Options) -> int:
    """Run the jobs of a file; the exit status, unless we have to die by a signal."""
    path = options.values["jobs"]
    try:
        specs = load_jobs(path, os.environ)
    except ConfigError as error:
        _say(options, str(error))
        return EX_CONFIG
    if "check" in options.flags:
        text = ngettext("{path}: {count} job, nothing wrong", "{path}: {count} jobs, nothing wrong", len(specs))
        os.write(1, os.fsencode(text.format(path=path, count=len(specs)) + "\n"))
        return 0
    run = _Run(options, specs)
    with asyncio.Runner(loop_factory=_loop_factory(options)) as runner:
        status = runner.run(run.main())
    if run.stopped_by is not None:
        die_by(run.stopped_by)
    return status


def _loop_factory(options: Options) -> type[asyncio.AbstractEventLoop] | None:
    if options.values.get("loop") == "asyncio":
        return asyncio.SelectorEventLoop
    try:
        import uvloop
    except ImportError:
        return None
    return uvloop.Loop


class _Run:
    def __init__(self, options: Options, specs: Sequence[JobSpec]) -> None:
        self.stopped_by: int | None = None
        self._options = options
        self._specs = specs
        self._lossy: list[str] = []
        self._quiet = {spec.name for spec in specs if spec.quiet}
        self._failed_output = False
        self._supervisor: Supervisor | None = None

    async def main(self) -> int:
        loop = asyncio.get_running_loop()
        pumps = PumpProcess(loop)
        try:
            files = open_all(self._specs, pumps)
        except OutputError as error:
            _say(self._options, f"{error.filename}: {error.strerror}")
            return EX_CANTCREAT
        fans = open_fans(loop, pumps, self._own_output_failed)
        self._log = Log(
            fans[Stream.STDERR], self._options.values.get("log_format", "console"), colour=use_colour(os.environ, is_tty=os.isatty(2))
        )
        marks = prefixes([spec.name for spec in self._specs], colour=use_colour(os.environ, is_tty=os.isatty(1)))
        jobs: list[tuple[JobSpec, Sequence[Output]]] = []
        for spec in self._specs:
            terminal = JobTerminal(loop, fans, *marks[spec.name])
            jobs.append((spec, [SpoolOutput(terminal) if spec.quiet else terminal, *files[spec.name]]))
        captures = Captures()
        self._supervisor = Supervisor(loop, captures, jobs, self._tell)
        self._listen(loop, self._supervisor)
        status = await self._supervisor.run()
        self._log.say(INFO, "all jobs ended", jobs=len(self._specs), status=status, **self._summary())
        await self._farewell(self._supervisor, set(fans.values()))
        self.stopped_by = self._supervisor.stopped_by
        pumps.close()
        captures.close()
        return status or (EX_IOERR if self._failed_output else 0)

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

    def _summary(self) -> dict[str, object]:
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
            _try_to_say(self._options, text.format(count=lost_bytes))


def _say(options: Options, text: str) -> None:
    os.write(2, os.fsencode(f"{options.prog}: {text}\n"))


def _try_to_say(options: Options, text: str) -> None:
    """To stderr if it takes it now: we are leaving, and it may be what was stuck."""
    import select

    if select.select([], [2], [], 0)[1]:
        try:
            _say(options, text)
        except OSError as error:
            del error  # it was closed: there is nobody to tell
