"""Owns the opening of all files of a run: every one of them, or none."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from ..engine.pumps import DirectFile, PumpProcess, ThreadedFile, is_fifo
from ..errors import OutputError
from ..output.file import append_where_shared, open_file, truncate_file
from ..output.piped import PipedOutput

if TYPE_CHECKING:
    from ..core.contracts import Loop, Output
    from ..core.outputs import OutputFile
    from ..core.spec import JobSpec


class JobFiles:
    """The files of one job, open for all its runs: what a later one writes follows what the ones before have written."""

    def __init__(self, pumps: PumpProcess) -> None:
        self._pumps = pumps
        self._files: list[tuple[int | None, OutputFile]] = []

    def add(self, fd: int | None, file: OutputFile) -> None:
        """One more, which becomes ours; None for a FIFO, which the pump opens: that waits for a reader."""
        self._files.append((fd, file))

    def open(self, *, last: bool) -> list[PipedOutput]:
        """The outputs of one run; ``last``: there will be no further one. Raises OutputError."""
        outputs: list[PipedOutput] = []
        try:
            for fd, file in self._files:
                mine = fd if last else _copy(fd, file)
                outputs.append(PipedOutput(self._pumps.destination(mine, file.path), file.stream, file.path))
        except OutputError:
            for output in outputs:
                output.close()
            raise
        if last:
            self._files = []
        return outputs

    def close(self) -> None:
        """Release what no run has taken."""
        files, self._files = self._files, []
        for fd, _ in files:
            if fd is not None:
                os.close(fd)


def _copy(fd: int | None, file: OutputFile) -> int | None:
    """The same open file, whose offset is shared (dup(2))."""
    try:
        return fd if fd is None else os.dup(fd)
    except OSError as error:
        raise OutputError(error.errno, error.strerror, file.path) from error


def open_all(specs: Iterable[JobSpec], pumps: PumpProcess) -> dict[str, JobFiles]:
    """The files of each job, by its name, all written by the pump process; what is to be overwritten is empty then.

    Raises OutputError for the first that cannot be opened: then none is open, and none was truncated.
    """
    opened: list[tuple[int, OutputFile]] = []
    files: dict[str, JobFiles] = {}
    try:
        for spec in specs:
            mine = files[spec.name] = JobFiles(pumps)
            for file in spec.outputs:
                fd = None if is_fifo(file.path) else open_file(file.path, append=file.append)
                if fd is not None:
                    opened.append((fd, file))
                mine.add(fd, file)
        _truncate(opened)
    except BaseException:
        for fd, _ in opened:
            os.close(fd)
        raise
    return files


def open_in_host(files: Sequence[OutputFile], loop: Loop) -> list[PipedOutput]:
    """The file outputs of one command in a host application: regular files are written by threads.

    Raises OutputError, as open_all; also for a FIFO that nobody reads, as there is nobody to wait for it.
    """
    opened: list[tuple[int, OutputFile]] = []
    try:
        for file in files:
            fd = _open_unblocked(file)
            opened.append((fd, file))
        append_where_shared((fd, file.stream, file.append) for fd, file in opened)
        _truncate(opened)
    except BaseException:
        for fd, _ in opened:
            os.close(fd)
        raise
    return [
        PipedOutput(ThreadedFile(loop, fd) if stat.S_ISREG(os.fstat(fd).st_mode) else DirectFile(fd), file.stream, file.path)
        for fd, file in opened
    ]


def _open_unblocked(file: OutputFile) -> int:
    if not is_fifo(file.path):
        fd = open_file(file.path, append=file.append)
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            os.set_blocking(fd, False)  # our own open file: nobody shares the flag
        return fd
    try:
        return os.open(file.path, os.O_WRONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:  # ENXIO: no reader
        raise OutputError(error.errno, "nobody has this FIFO open for reading", file.path) from error


def _truncate(opened: Iterable[tuple[int, OutputFile]]) -> None:
    for fd, file in opened:
        if not file.append:
            truncate_file(fd, file.path)


def close_all(outputs: Sequence[Output]) -> None:
    """Close outputs that never got a job."""
    for output in outputs:
        output.close()
