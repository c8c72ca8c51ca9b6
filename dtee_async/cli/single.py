"""Owns the one-command line: one command, its own select loop, blocking outputs; what dtee and cronty do."""

from __future__ import annotations

import contextlib
import gc
import os
import select
import signal
import subprocess
import sys
from errno import EPIPE
from functools import partial
from typing import TYPE_CHECKING, NoReturn

from ..core.capture import LINGER_S, CaptureSpec
from ..core.contracts import ChildFds
from ..core.exit import Exit, signal_text
from ..engine.captures import Captures, Capturing
from ..engine.command import Command, Outcome
from ..engine.selectloop import SelectLoop
from ..errors import CaptureError, OutputError, SpawnError
from ..output.file import FileOutput
from ..output.spool import SpoolOutput
from ..output.standard import StandardOutput
from ..process.child import reap
from ..process.group import die_by
from ..process.spawn import SpawnPlan, become, spawn
from ..process.stdio import make_blocking
from .files import open_files
from .status import EX_CANTCREAT, EX_IOERR, EX_NOINPUT, EX_OSERR, EX_UNAVAILABLE
from .text import _, say, worded

if TYPE_CHECKING:
    from collections.abc import Callable

    from ..core.contracts import Output, Transport
    from ..engine.keyboard import Keyboard
    from ..engine.protocol import Capture
    from ..engine.relay import Relay
    from .parse import Options

ALONE_ROUNDS = 64
"""There is no other command on this loop that could starve."""

CRON_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGPIPE)


def run_single(options: Options) -> int:
    """Run the command of the options; the exit status, unless we have to die by a signal."""
    # posix_spawn(3) as subprocess calls it leaves signals 32 and 33 ignored in the command; vfork(2) is as fast.
    subprocess._USE_POSIX_SPAWN = False  # type: ignore[misc]  # noqa: SLF001 - the documented switch
    gc.disable()  # the path of a write makes no cycles (a test says so), and looking for them is some percent of its cost
    make_blocking()
    return _Single(options).run()


class _Single:
    def __init__(self, options: Options) -> None:
        self._options = options
        self._command = options.command[0]
        self._plan = SpawnPlan(options.command, own_session=False, stdin=True)
        self._outcome: Outcome | None = None
        self._interrupted: int | None = None
        self._keyboard: Keyboard | None = None
        self._loop: SelectLoop | None = None
        self._file_fds: list[int] = []
        self._file_failed = False
        self._own_output_failed = False
        self._status = 0
        """A status of ours, which wins over the command's."""

    def run(self) -> int:
        cron = self._options.cron
        self._set_signals(cron=cron)
        files = self._open_files()
        if files is None:
            return EX_CANTCREAT
        if cron:
            self._catch_signals()
        try:
            loop, capturing = self._prepare()
        except CaptureError as error:
            self._complain(error)
            for output in files:
                output.close()
            return self._run_uncaptured() if cron else EX_UNAVAILABLE
        standard = SpoolOutput(StandardOutput()) if cron else StandardOutput()
        with loop:
            self._loop = loop
            command = self._command_on(loop, capturing, [standard, *files])
            with self._at_terminal(loop, capturing.transport) as keyboard:
                self._start(command)
                if keyboard is not None and self._outcome is None:
                    keyboard.start()
                if self._status and isinstance(standard, SpoolOutput):
                    standard.release()  # a file could not be opened: who reads of that sees the rest, too
                loop.run_until(lambda: self._outcome is not None or self._interrupted is not None)
            if self._outcome is None:
                command.read_now()
            return self._finish(standard)

    def _command_on(self, loop: SelectLoop, capturing: Capturing, outputs: list[Output]) -> Command:
        linger_s = self._linger_s()
        relayed = capturing.transport.mode == "pipe" and not self._options.cron
        relay = _relay(loop, capturing.transport, outputs, linger=linger_s > 0) if relayed else None
        if relay is not None:
            signal.signal(signal.SIGPIPE, signal.SIG_IGN)  # of a pipe of ours; of our own stdout we are told
        self._say_mode(capturing, relayed=relay is not None)
        return Command(
            loop, capturing.transport, outputs, self._report, self._done, linger_s=linger_s or None, rounds=ALONE_ROUNDS, relay=relay
        )

    def _at_terminal(self, loop: SelectLoop, transport: Transport) -> contextlib.AbstractContextManager[Keyboard | None]:
        """In mode ``pty``: Ctrl-C and the window's size reach the command, and so does what is typed at our terminal, if it is one."""
        if transport.mode != "pty":
            return contextlib.nullcontext()
        from ..engine.keyboard import Keyboard, window_size
        from ..transport.pty import PtyTransport

        assert isinstance(transport, PtyTransport)

        def resize() -> None:
            if size := window_size():
                transport.resize(*size)

        signal.signal(signal.SIGWINCH, lambda *_: loop.call_soon_threadsafe(resize))
        if signal.getsignal(signal.SIGINT) is signal.SIG_DFL:
            signal.signal(signal.SIGINT, lambda *_: loop.call_soon_threadsafe(transport.interrupt))
        if not self._capture_spec().interactive:
            return contextlib.nullcontext()
        keyboard = self._keyboard = Keyboard(loop, transport.terminal_fd, full_screen=True)

        def go_on() -> None:
            keyboard.make_raw()
            resize()

        signal.signal(signal.SIGCONT, lambda *_: loop.call_soon_threadsafe(go_on))
        for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT):
            if signal.getsignal(number) is signal.SIG_DFL:
                signal.signal(number, self._caught)  # our terminal is made what it was before we die by it
        return contextlib.closing(keyboard)

    def _prepare(self) -> tuple[SelectLoop, Capturing]:
        """All that a capture needs. A signal that ends us waits until the directory of the sockets is gone again.

        Raises CaptureError.
        """
        before = signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
        try:
            with contextlib.ExitStack() as undo:
                loop = undo.enter_context(SelectLoop())
                capturing = Captures().open(self._capture_spec(), self._plan)
                undo.pop_all()
                return loop, capturing
        except CaptureError:
            raise
        except OSError as error:
            raise CaptureError(error.errno, f"socket: {error.strerror}") from error
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)

    def _capture_spec(self) -> CaptureSpec:
        values = self._options.values
        mode = values.get("capture", "auto")
        interactive = mode == "pty" and os.isatty(0)
        return CaptureSpec(mode, values.get("watch_fds", "1-2"), False, interactive, "stderr_apart" in self._options.flags)

    def _linger_s(self) -> float:
        """As dtee, one command does not wait for what it left behind, unless it was asked for."""
        return LINGER_S["writers"] if self._options.values.get("wait_for") == "writers" else 0

    def _say_mode(self, capturing: Capturing, *, relayed: bool) -> None:
        """With -v; a mode that cannot be had is said in any case, but in cron mode."""
        transport, reason, fell_back = capturing
        if self._options.cron or not (fell_back or "verbose" in self._options.flags):
            return
        exact = _("exact order") if transport.exact else _("order by time of reading")
        text = _("capture mode {mode}, {exact}").format(mode=transport.mode, exact=exact)
        if relayed:
            text += ", " + _("bytes moved by tee(2) and splice(2)")
        text += f" ({reason})" if reason else ""
        say(f"{self._options.prog}: {text}\n")

    def _start(self, command: Command) -> None:
        try:
            command.start(self._plan)
        except SpawnError as error:
            if self._options.cron and error.filename is None:
                self._become(error)
            else:
                command.end_unstarted(_start_status(error), self._failure(error))

    def _open_files(self) -> list[FileOutput] | None:
        """All files; None if one could not be opened (in cron mode: what could be)."""
        cron = self._options.cron
        opened, complete = open_files(self._options.files, self._complain, all_or_none=not cron)
        if not complete:
            self._status = EX_CANTCREAT
            if not cron:
                return None
        self._file_fds = [fd for fd, _, _ in opened]
        return [FileOutput(fd, key.stream, path) for fd, key, path in opened]

    def _set_signals(self, *, cron: bool) -> None:
        if "ignore_interrupts" in self._options.flags and signal.getsignal(signal.SIGINT) is not signal.SIG_IGN:
            # Caught, not ignored: what is caught is the default again in the command (execve(2)).
            signal.signal(signal.SIGINT, lambda *_: None)
        if not cron:
            signal.signal(signal.SIGPIPE, signal.SIG_DFL)  # CPython ignores it; a plain program dies by it

    def _catch_signals(self) -> None:
        for number in CRON_SIGNALS:
            handler = signal.getsignal(number)
            if handler is signal.SIG_DFL or (number == signal.SIGPIPE and handler is signal.SIG_IGN):
                signal.signal(number, self._caught)

    def _caught(self, number: int, _frame: object) -> None:
        if number == signal.SIGPIPE and self._has_file_without_reader():
            return
        if self._loop is None:  # nothing is captured, so there is nothing to replay
            self._say_received(number)
            die_by(number)
            return
        if self._interrupted is not None and number != signal.SIGPIPE:  # whoever reads from us may never do so again
            if self._keyboard is not None:
                self._keyboard.restore()
            die_by(number)
        self._interrupted = self._interrupted or number
        if self._outcome is None:
            self._loop.call_soon_threadsafe(int)  # wakes it: it asks for _interrupted

    def _has_file_without_reader(self) -> bool:
        """Then a SIGPIPE came with a write to it, which is told as its failure; that of our own stdout is told to _report(), too."""
        poll = select.poll()
        for fd in self._file_fds:
            poll.register(fd, 0)
        return any(event & select.POLLERR for _, event in poll.poll(0))

    def _say_received(self, number: int) -> None:
        received = _("received signal {number}: {name}").format(number=number, name=signal_text(number))
        say(f"{self._options.prog}: {received}\n")

    def _done(self, outcome: Outcome) -> None:
        self._outcome = outcome

    def _report(self, output: Output, error: OSError) -> None:
        if error.errno == EPIPE and not self._options.cron:  # only a relay tells it: else SIGPIPE has killed us
            die_by(signal.SIGPIPE)
        if isinstance(output, StandardOutput | SpoolOutput):
            self._own_output_failed = True
            if error.errno == EPIPE:
                self._interrupted = self._interrupted or signal.SIGPIPE
        else:
            self._file_failed = True
        self._complain(error if error.filename is not None else OutputError(error.errno, error.strerror, output.name))

    def _complain(self, error: OSError) -> None:
        say(f"{self._options.prog}: {worded(error)}\n")

    def _failure(self, error: SpawnError) -> bytes:
        what = "" if error.filename is None else f"{self._command}: "
        return os.fsencode(f"{self._options.prog}: {what}{error.strerror}\n")

    def _run_uncaptured(self) -> int:
        """Run the command on our own stdout and stderr: all that cron mode can do when nothing can be captured."""
        try:
            exit = reap(spawn(self._plan, ChildFds(1, 2)))
        except SpawnError as error:
            if error.filename is None:
                self._become(error)
            say(os.fsdecode(self._failure(error)))
            exit = Exit(_start_status(error))
        self._say_ending(exit)
        return self._end(exit)

    def _become(self, error: SpawnError) -> NoReturn:
        """No process can be made: cron mode does not give up, and gives the command its own."""
        say(os.fsdecode(self._failure(error)))
        if self._interrupted is not None:
            self._say_received(self._interrupted)
            die_by(self._interrupted)
        try:
            become(self._plan)
        except SpawnError as not_executable:
            say(os.fsdecode(self._failure(not_executable)))
            self._say_ending(Exit(EX_NOINPUT))
            sys.exit(EX_NOINPUT)

    def _finish(self, standard: Output) -> int:
        exit = self._outcome.exit if self._outcome is not None else Exit(0)
        if self._outcome is not None and self._outcome.error is not None:
            self._complain(self._outcome.error)
            self._file_failed = True
        if isinstance(standard, SpoolOutput):
            self._report_cron(standard, exit)
        if self._interrupted is not None:
            die_by(self._interrupted)
        return self._end(exit)

    def _end(self, exit: Exit) -> int:
        if exit.signal == signal.SIGINT:
            die_by(signal.SIGINT)
        if self._file_failed or (self._own_output_failed and not self._options.cron):
            self._status = self._status or EX_IOERR
        return self._status or exit.status

    def _report_cron(self, spool: SpoolOutput, exit: Exit) -> None:
        if self._interrupted is not None:
            spool.release()
            self._say_received(self._interrupted)
        if self._outcome is not None and not (spool.silent and self._interrupted is None and self._outcome.error is None):
            self._say_ending(exit)

    def _say_ending(self, exit: Exit) -> None:
        say(f"{self._options.prog}: {_ending(self._command, exit)}\n")


def _relay(loop: SelectLoop, transport: Transport, outputs: list[Output], *, linger: bool) -> Callable[[Capture], Relay] | None:
    """What makes a relay, where the bytes need not be looked at."""
    from ..engine.relay import Relay, plain_sinks
    from ..transport.pipe import PipeTransport

    sinks = plain_sinks(transport, outputs)
    if sinks is None or not isinstance(transport, PipeTransport):
        return None
    return partial(Relay, loop, transport, sinks=sinks, linger=linger)


def _ending(command: str, exit: Exit) -> str:
    """Exit.describe() in the user's language."""
    if exit.signal is None:
        return _("{command}: exited with status {status}").format(command=command, status=exit.returncode)
    text = _("{command}: process terminated by signal {number}: {name}")
    if exit.core_dumped:
        text = _("{command}: process terminated by signal {number}: {name} (core dumped)")
    return text.format(command=command, number=exit.signal, name=signal_text(exit.signal))


def _start_status(error: SpawnError) -> int:
    return EX_OSERR if error.filename is None else EX_NOINPUT
