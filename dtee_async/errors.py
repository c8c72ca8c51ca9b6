"""Owns every error that dtee_async raises on purpose: one root, and each names the job, the file or the key it is about."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .core.result import PipelineResult, Result


class DteeError(Exception):
    """The root of all errors of this package. ``result``: how the command ended, and what it had written, if it was started by then."""

    result: Result | None = None


class ConfigError(DteeError, ValueError):
    """A jobs file or an argument is wrong; nothing was started. The text names the file, the key and what was expected."""


class CaptureError(DteeError, OSError):
    """The sockets that carry a child's output could not be made, or receiving from them failed (errno is set)."""


class OutputError(DteeError, OSError):
    """An output could not be opened or written; ``filename`` says which (errno is set)."""


class SpawnError(DteeError, OSError):
    """The command could not be started; ``filename`` is the command or its working directory (errno is set)."""


class CommandNotFoundError(SpawnError, FileNotFoundError):
    """The command does not exist: what ``except FileNotFoundError`` expects."""


class UnknownExitStatusError(DteeError, ChildProcessError):
    """Somebody else reaped our child, or SIGCHLD is ignored in this process: how the command ended cannot be known."""


class LoopError(DteeError, RuntimeError):
    """No event loop that dtee_async can use is running here."""


class CommandTimeoutError(DteeError, TimeoutError):
    """The command took longer than ``timeout_s``, and was ended; ``result`` has what it wrote until then.

    ``pipeline`` has that of all commands, if it was one of a pipeline.
    """

    result: Result

    def __init__(self, result: Result, timeout_s: float, pipeline: PipelineResult | None = None, who: str = "") -> None:
        """``who``: the commands that were not done, if they are several."""
        self.result = result
        self.timeout_s = timeout_s
        self.pipeline = pipeline
        super().__init__(f"{who or result.command}: not done in {timeout_s:g} s")

    def __reduce__(self) -> tuple[object, ...]:
        return _made_again, (type(self), self.args, vars(self))


class CommandFailedError(DteeError):
    """The command ended with a non-zero status or by a signal, and ``check=True`` was asked for.

    ``pipeline`` has the results of all commands, if it was one of a pipeline.
    """

    result: Result

    def __init__(self, result: Result, pipeline: PipelineResult | None = None) -> None:
        self.result = result
        self.pipeline = pipeline
        tail = b"\n".join(result.stderr.splitlines()[-5:]).decode("utf-8", "backslashreplace")
        super().__init__(f"{result.exit.describe(result.command)}" + (f"\n{tail}" if tail else ""))

    def __reduce__(self) -> tuple[object, ...]:
        return _made_again, (type(self), self.args, vars(self))


def _made_again(kind: type[DteeError], args: tuple[object, ...], attributes: dict[str, object]) -> DteeError:
    """For pickle, which would call the class with the text of the error."""
    error = kind.__new__(kind, *args)
    error.args = args
    vars(error).update(attributes)
    return error
