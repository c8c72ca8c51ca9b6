"""Owns the care for outputs of somebody else's making: what one raises is that output's failure, and all others go on."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from errno import EIO
from typing import TYPE_CHECKING

from ..errors import OutputError

if TYPE_CHECKING:
    from ..core.batch import Batch
    from ..core.contracts import Flow, Output
    from ..core.exit import Exit


class GuardedOutput:
    """Stands between an output and its flow, until it raises something: then it is closed, and what would have gone there is counted."""

    def __init__(self, output: Output) -> None:
        """Raises TypeError for what is no output."""
        for name in ("open", "write", "end", "close"):
            method = getattr(output, name, None)
            if not callable(method) or inspect.iscoroutinefunction(method):
                raise TypeError(
                    f"outputs: expected objects with open(), write(), end() and close(), which are not async, got {type(output).__name__}, "
                    f"whose {name}() is {'async' if callable(method) else 'missing'}"
                )
        self.name: str = str(getattr(output, "name", type(output).__name__))
        self.wants_stamps: bool = bool(getattr(output, "wants_stamps", True))
        self._output: Output | None = output
        self._flow: Flow | None = None
        self._fds: set[int] = set()
        self._undelivered_bytes = 0

    # What the engine asks of it

    def open(self, flow: Flow) -> None:
        self._flow = flow
        if self._output is not None:
            self._guard(self._output.open, self)

    def write(self, batch: Batch) -> None:
        if self._output is not None:
            self._guard(self._output.write, batch)
        if self._output is None:
            self._undelivered_bytes += batch.size_bytes

    def end(self, exit: Exit) -> None:
        if self._output is not None:
            self._guard(self._output.end, exit)

    def close(self) -> int:
        self._close()
        return self._undelivered_bytes

    # What it asks of the engine; nothing any more, when it is closed

    def pause(self) -> None:
        if self._flow is not None and self._output is not None:
            self._flow.pause()

    def resume(self) -> None:
        if self._flow is not None and self._output is not None:
            self._flow.resume()

    def report(self, error: OSError) -> None:
        if self._flow is not None and self._output is not None:
            self._flow.report(error)

    def when_writable(self, fd: int, callback: Callable[[], None] | None) -> None:
        if self._flow is None or self._output is None:
            return
        if callback is None:
            self._fds.discard(fd)
            self._flow.when_writable(fd, None)
        else:
            self._fds.add(fd)
            self._flow.when_writable(fd, lambda: self._guard(callback))

    def _guard(self, step: Callable[..., object], *arguments: object) -> None:
        try:
            step(*arguments)
        except BaseException as error:  # noqa: BLE001 - whatever it is, it is theirs, and the others are to have the batch
            self._fail(error)

    def _fail(self, error: BaseException) -> None:
        self._report(error)
        self._close()
        if self._flow is not None:
            self._flow.resume()

    def _close(self) -> None:
        output, self._output = self._output, None
        for fd in self._fds:
            assert self._flow is not None
            self._flow.when_writable(fd, None)
        self._fds.clear()
        if output is not None:
            try:
                self._undelivered_bytes += output.close() or 0
            except BaseException as error:  # noqa: BLE001
                self._report(error)

    def _report(self, error: BaseException) -> None:
        if self._flow is None:
            return
        if isinstance(error, OSError) and error.errno:
            failure = OutputError(error.errno, error.strerror, self.name)
        else:
            failure = OutputError(EIO, f"{type(error).__name__}: {error}", self.name)
        failure.__cause__ = error
        self._flow.report(failure)
