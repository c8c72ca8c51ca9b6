"""Owns the care for outputs of somebody else's making: what one raises is that output's failure, and all others go on."""

from __future__ import annotations

from collections.abc import Callable
from errno import EIO
from typing import TYPE_CHECKING

from ..errors import OutputError

if TYPE_CHECKING:
    from ..core.batch import Batch
    from ..core.contracts import Flow, Output
    from ..core.exit import Exit


class GuardedOutput:
    """Hands on to an output until that raises something; then it is closed, and what would have gone there is counted."""

    def __init__(self, output: Output) -> None:
        """Raises TypeError for what is no output."""
        for method in ("open", "write", "end", "close"):
            if not callable(getattr(output, method, None)):
                raise TypeError(
                    f"outputs: expected objects with open(), write(), end() and close(), got {type(output).__name__} without {method}()"
                )
        self.name: str = str(getattr(output, "name", type(output).__name__))
        self.wants_stamps: bool = bool(getattr(output, "wants_stamps", True))
        self._output = output
        self._flow: Flow | None = None
        self._failed = False
        self._undelivered_bytes = 0

    def open(self, flow: Flow) -> None:
        self._flow = flow
        self._guard(lambda: self._output.open(flow))

    def write(self, batch: Batch) -> None:
        if not self._failed:
            self._guard(lambda: self._output.write(batch))
        if self._failed:
            self._undelivered_bytes += batch.size_bytes

    def end(self, exit: Exit) -> None:
        self._guard(lambda: self._output.end(exit))

    def close(self) -> int:
        self._close()
        return self._undelivered_bytes

    def _guard(self, step: Callable[[], None]) -> None:
        if self._failed:
            return
        try:
            step()
        except Exception as error:  # noqa: BLE001 - whatever it is, it is theirs
            self._failed = True
            self._report(error)
            self._close()
            if self._flow is not None:
                self._flow.resume()

    def _close(self) -> None:
        output, self._output = self._output, _CLOSED
        try:
            self._undelivered_bytes += output.close()
        except Exception as error:  # noqa: BLE001
            self._report(error)

    def _report(self, error: Exception) -> None:
        if self._flow is None:
            return
        if isinstance(error, OSError) and error.errno:
            failure = OutputError(error.errno, error.strerror, self.name)
        else:
            failure = OutputError(EIO, f"{type(error).__name__}: {error}", self.name)
        failure.__cause__ = error
        self._flow.report(failure)


class _Closed:
    name = "closed"
    wants_stamps = False

    def open(self, flow: Flow) -> None: ...
    def write(self, batch: Batch) -> None: ...
    def end(self, exit: Exit) -> None: ...
    def close(self) -> int:
        return 0


_CLOSED = _Closed()
