"""Owns ``-`` as the command: standard input to standard output and to files, as tee(1) does it, by tee(2) where the ends allow it."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from errno import EPIPE
from typing import TYPE_CHECKING

from ..core.platforms import has
from ..engine.duplication import Duplicated, Duplication
from ..engine.plaincopy import copy_plainly
from ..engine.selectloop import SelectLoop
from ..process.group import die_by
from .files import OpenedFile, open_files
from .status import EX_CANTCREAT, EX_IOERR
from .text import _, say, worded
from .units import amount, clock

if TYPE_CHECKING:
    from .parse import Options

PROGRESS_S = 1.0


def run_copy(options: Options) -> int:
    """Copy; the exit status, unless we have to die by SIGPIPE."""
    return _Copy(options).run()


class _Copy:
    def __init__(self, options: Options) -> None:
        self._options = options
        self._mode = options.values.get("output_error", "")
        self._status = 0
        self._files: list[OpenedFile] = []
        self._ended = False
        self._broken = False
        self._duplication: Duplication | None = None

    def run(self) -> int:
        self._set_signals()
        try:
            os.read(0, 0)
        except OSError as error:  # closed: the first file would become our standard input; or not open for reading
            self._fail(error)
            return self._status
        self._files, complete = open_files(self._options.files, self._complain, all_or_none=False)
        if not complete:
            self._status = EX_CANTCREAT
            if self._mode.startswith("exit"):
                return self._status
        sinks = [1, *(file.fd for file in self._files)]
        if has("splice"):
            self._duplicate(sinks)
        else:
            self._fail(copy_plainly(0, sinks, self._lost))
        if self._broken and not self._mode:
            die_by(signal.SIGPIPE)
        return self._status

    def _set_signals(self) -> None:
        signal.signal(signal.SIGPIPE, signal.SIG_IGN)  # a pipe of our own breaks, too, when what is behind it fails
        if "ignore_interrupts" in self._options.flags:
            signal.signal(signal.SIGINT, signal.SIG_IGN)

    def _duplicate(self, sinks: list[int]) -> None:
        with SelectLoop() as loop:
            duplication = self._duplication = Duplication(loop, 0, sinks, self._end, enlarge=True, on_lost=self._lost_on_loop)
            duplication.start()
            with self._progress(loop, duplication):
                loop.run_until(lambda: self._ended)
        self._fail(duplication.failure)
        self._close_files(duplication.result)
        if "verbose" in self._options.flags:
            self._say_ways(duplication.result)

    def _end(self) -> None:
        self._ended = True

    def _lost_on_loop(self, index: int, error: OSError) -> None:
        if not self._lost(index, error) and self._duplication is not None:
            self._duplication.close()

    def _lost(self, index: int, error: OSError) -> bool:
        """An output has failed: say so as the mode has it; whether to go on with the others."""
        broken_pipe = error.errno == EPIPE
        if broken_pipe and not self._mode:
            self._broken = True
            return False
        if broken_pipe and self._mode.endswith("nopipe"):
            return True
        self._status = self._status or EX_IOERR
        self._say(f"{self._name(index)}: {error.strerror}")
        return not self._mode.startswith("exit")

    def _fail(self, error: OSError | None) -> None:
        if error is not None:
            self._status = self._status or EX_IOERR
            self._say(f"stdin: read: {error.strerror}")

    def _close_files(self, result: Duplicated) -> None:
        """Where a network filesystem tells of writes that failed."""
        for index, (file, sunk) in enumerate(zip(self._files, result.sinks[1:], strict=True), 1):
            try:
                os.close(file.fd)
            except OSError as error:
                if sunk.error is None:
                    self._lost(index, error)

    def _name(self, index: int) -> str:
        return self._files[index - 1].path if index else "stdout: write"

    def _say_ways(self, result: Duplicated) -> None:
        """With -v: how each output got its bytes."""
        words = {"tee": _("duplicated by tee(2)"), "splice": _("moved by splice(2)"), "copy": _("read and written")}
        for index, sunk in enumerate(result.sinks):
            name = self._name(index).removesuffix(": write")
            self._say(_("{name}: {size}, {way}").format(name=name, size=amount(sunk.size_bytes), way=words[sunk.way]))

    def _progress(self, loop: SelectLoop, duplication: Duplication) -> contextlib.AbstractContextManager[object]:
        flags = self._options.flags
        is_tty = os.isatty(2)
        if "force_progress" not in flags and not ("progress" in flags and is_tty):
            return contextlib.nullcontext()
        return _Progress(loop, duplication, is_tty=is_tty)

    def _complain(self, error: OSError) -> None:
        self._say(worded(error))

    def _say(self, text: str) -> None:
        say(f"{self._options.prog}: {text}\n")


class _Progress:
    """A line on stderr, each second: bytes, rate on the average, time elapsed. On a terminal it stays one line."""

    def __init__(self, loop: SelectLoop, duplication: Duplication, *, is_tty: bool) -> None:
        self._loop = loop
        self._duplication = duplication
        self._begin, self._end = ("\r", "\x1b[K") if is_tty else ("", "\n")
        self._last_end = "\x1b[K\n" if is_tty else "\n"
        self._began_s = time.monotonic()
        self._timer = loop.call_later(PROGRESS_S, self._show)

    def __enter__(self) -> None:
        pass

    def __exit__(self, *exc: object) -> None:
        self._timer.cancel()
        self._write(self._last_end)

    def _show(self) -> None:
        self._write(self._end)
        self._timer = self._loop.call_later(PROGRESS_S, self._show)

    def _write(self, end: str) -> None:
        elapsed_s = time.monotonic() - self._began_s
        size_bytes = self._duplication.result.size_bytes
        rate = amount(size_bytes / elapsed_s if elapsed_s else 0)
        say(f"{self._begin}{amount(size_bytes)}, {rate}/s, {clock(elapsed_s)}{end}")
