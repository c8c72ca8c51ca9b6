"""Owns the one-command line: one command, its own select loop, blocking outputs; what dtee and cronty do."""

from __future__ import annotations

import os
import signal
from typing import TYPE_CHECKING

from ..core.exit import Exit, signal_text
from ..core.outputs import OUTPUT_KEYS
from ..engine.command import Command, Outcome
from ..engine.selectloop import SelectLoop
from ..errors import CaptureError, CommandNotFoundError, OutputError, SpawnError
from ..output.file import FileOutput, open_file, truncate_file
from ..output.spool import SpoolOutput
from ..output.standard import StandardOutput
from ..process.group import die_by
from ..process.spawn import SpawnPlan, reap, spawn
from ..process.stdio import make_blocking
from ..transport.datagram import DatagramTransport
from ..transport.recvmmsg import ReceiveBuffer
from .status import EX_CANTCREAT, EX_IOERR, EX_NOINPUT, EX_OSERR, EX_UNAVAILABLE

if TYPE_CHECKING:
    from ..core.contracts import Output
    from .parse import Options

ALONE_ROUNDS = 64
"""There is no other command on this loop that could starve."""

CRON_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGPIPE)


def run_single(options: Options) -> int:
    """Run the command of the options; the exit status, unless we have to die by a signal."""
    make_blocking()
    return _Single(options).run()


class _Single:
    def __init__(self, options: Options) -> None:
        self._options = options
        self._command = options.command[0]
        self._plan = SpawnPlan(options.command, own_session=False, stdin=True)
        self._outcome: Outcome | None = None
        self._interrupted: int | None = None
        self._file_failed = False
        self._own_output_failed = False
        self._status = 0
        """A status of ours, which wins over the command's."""

    def run(self) -> int:
        cron = self._options.cron
        self._set_signals(cron=cron)
        files = self._open_files()
        if files is None and not cron:
            return EX_CANTCREAT
        standard = SpoolOutput(StandardOutput()) if cron else StandardOutput()
        outputs: list[Output] = [standard, *(files or [])]
        try:
            transport = DatagramTransport(ReceiveBuffer())
        except (CaptureError, OSError) as error:
            self._complain(error)
            for output in outputs:
                output.close()
            return self._run_uncaptured() if cron else EX_UNAVAILABLE
        with SelectLoop() as loop:
            if cron:
                self._catch_signals(loop)
            command = Command(loop, transport, outputs, self._report, self._done, linger_s=0, rounds=ALONE_ROUNDS)
            try:
                command.start(self._plan)
            except SpawnError as error:
                command.end_unstarted(_start_status(error), self._failure(error))
            loop.run_until(lambda: self._outcome is not None or self._interrupted is not None)
            if self._outcome is None:
                command.read_now()
        return self._finish(standard)

    def _open_files(self) -> list[FileOutput] | None:
        """All files, so that every failure is reported; None if there was one (in cron mode: what could be opened)."""
        opened: list[tuple[int, str, str]] = []
        failed = False
        for key, path in self._options.files:
            try:
                opened.append((open_file(path, append=OUTPUT_KEYS[key].append), key, path))
            except OutputError as error:
                self._complain(error)
                failed = True
        if failed:
            self._status = EX_CANTCREAT
        if failed and not self._options.cron:
            for fd, _, _ in opened:
                os.close(fd)
            return None
        for fd, key, path in opened:
            if not OUTPUT_KEYS[key].append:
                truncate_file(fd, path)
        return [FileOutput(fd, OUTPUT_KEYS[key].stream, path) for fd, key, path in opened]

    def _set_signals(self, *, cron: bool) -> None:
        if "ignore_interrupts" in self._options.flags and signal.getsignal(signal.SIGINT) is not signal.SIG_IGN:
            # Caught, not ignored: what is caught is the default again in the command (execve(2)).
            signal.signal(signal.SIGINT, lambda *_: None)
        if not cron:
            signal.signal(signal.SIGPIPE, signal.SIG_DFL)  # CPython ignores it; a plain program dies by it

    def _catch_signals(self, loop: SelectLoop) -> None:
        def caught(number: int, _: object) -> None:
            loop.call_soon_threadsafe(self._interrupt, number)

        for number in CRON_SIGNALS:
            handler = signal.getsignal(number)
            if handler is signal.SIG_DFL or (number == signal.SIGPIPE and handler is signal.SIG_IGN):
                signal.signal(number, caught)

    def _interrupt(self, number: int) -> None:
        self._interrupted = self._interrupted or number

    def _done(self, outcome: Outcome) -> None:
        self._outcome = outcome

    def _report(self, output: Output, error: OSError) -> None:
        if output.name == StandardOutput.name:
            self._own_output_failed = True
        else:
            self._file_failed = True
        self._complain(error if error.filename is not None else OutputError(error.errno, error.strerror, output.name))

    def _complain(self, error: OSError) -> None:
        where = f"{os.fsdecode(error.filename)}: " if error.filename is not None else ""
        _say(f"{self._options.prog}: {where}{error.strerror}\n")

    def _failure(self, error: SpawnError) -> bytes:
        return os.fsencode(f"{self._options.prog}: {self._command}: {error.strerror}\n")

    def _run_uncaptured(self) -> int:
        try:
            child = spawn(self._plan, 1, 2)
        except SpawnError as error:
            os.write(2, self._failure(error))
            return _start_status(error)
        return self._status or reap(child).status

    def _finish(self, standard: Output) -> int:
        exit = self._outcome.exit if self._outcome is not None else Exit(0)
        if isinstance(standard, SpoolOutput):
            self._report_cron(standard, exit)
        if self._interrupted is not None:
            die_by(self._interrupted)
        if self._outcome is not None and self._outcome.error is not None:
            self._complain(self._outcome.error)
            self._file_failed = True
        if exit.signal == signal.SIGINT:
            die_by(signal.SIGINT)
        if self._file_failed or (self._own_output_failed and not self._options.cron):
            self._status = self._status or EX_IOERR
        return self._status or exit.status

    def _report_cron(self, spool: SpoolOutput, exit: Exit) -> None:
        if self._interrupted is not None:
            spool.release()
            _say(f"{self._options.prog}: received signal {self._interrupted}: {signal_text(self._interrupted)}\n")
        if self._outcome is not None and (not spool.silent or self._interrupted is not None):
            _say(f"{self._options.prog}: {exit.describe(self._command)}\n")


def _start_status(error: SpawnError) -> int:
    return EX_NOINPUT if isinstance(error, CommandNotFoundError | PermissionError) or error.errno in _NOT_RUNNABLE else EX_OSERR


_NOT_RUNNABLE = frozenset({2, 8, 13, 20, 21, 36, 40})  # ENOENT ENOEXEC EACCES ENOTDIR EISDIR ENAMETOOLONG ELOOP


def _say(text: str) -> None:
    os.write(2, os.fsencode(text))
