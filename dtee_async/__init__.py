"""Every write of a command to stdout and stderr, once, whole, in order, tagged with stream, time and writer.

The public names are imported when they are first used, so that the command line does not pay for
asyncio when it runs one command.
"""

from .version import __version__ as __version__

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .api.jobs import RunningJob as RunningJob
    from .api.jobs import open_job as open_job
    from .api.jobs import run as run
    from .api.jobs import run_sync as run_sync
    from .api.stdin import StdinPipe as StdinPipe
    from .core.exit import Exit as Exit
    from .core.result import Captured as Captured
    from .core.result import Result as Result
    from .core.spec import JobSpec as JobSpec
    from .core.textlines import Line as Line
    from .core.write import Stream as Stream
    from .core.write import Write as Write
    from .errors import CaptureError as CaptureError
    from .errors import CommandFailedError as CommandFailedError
    from .errors import CommandNotFoundError as CommandNotFoundError
    from .errors import CommandTimeoutError as CommandTimeoutError
    from .errors import ConfigError as ConfigError
    from .errors import DteeError as DteeError
    from .errors import LoopError as LoopError
    from .errors import OutputError as OutputError
    from .errors import SpawnError as SpawnError
    from .errors import UnknownExitStatusError as UnknownExitStatusError

_HOME = {
    "RunningJob": ".api.jobs",
    "open_job": ".api.jobs",
    "run": ".api.jobs",
    "run_sync": ".api.jobs",
    "StdinPipe": ".api.stdin",
    "JobSpec": ".core.spec",
    "Line": ".core.textlines",
    "Exit": ".core.exit",
    "Captured": ".core.result",
    "Result": ".core.result",
    "Stream": ".core.write",
    "Write": ".core.write",
    "CaptureError": ".errors",
    "CommandFailedError": ".errors",
    "CommandTimeoutError": ".errors",
    "CommandNotFoundError": ".errors",
    "ConfigError": ".errors",
    "DteeError": ".errors",
    "LoopError": ".errors",
    "OutputError": ".errors",
    "SpawnError": ".errors",
    "UnknownExitStatusError": ".errors",
}

__all__ = sorted(_HOME)  # noqa: PLE0605 - a list of strings, though not a literal


def __getattr__(name: str) -> object:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    value = getattr(import_module(_HOME[name], __name__), name)
    globals()[name] = value
    return value
