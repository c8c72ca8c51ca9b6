"""Every write of a command to stdout and stderr, once, whole, in order, tagged with stream, time and writer.

The public names are imported when they are first used, so that the command line does not pay for
asyncio when it runs one command.
"""

from .version import __version__ as __version__

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .api.events import Events as Events
    from .api.events import EventsLost as EventsLost
    from .api.iterators import Lines as Lines
    from .api.iterators import Writes as Writes
    from .api.jobs import RunningJob as RunningJob
    from .api.jobs import open_job as open_job
    from .api.jobs import run as run
    from .api.jobs import run_sync as run_sync
    from .api.pipelines import RunningPipeline as RunningPipeline
    from .api.pipelines import open_pipeline as open_pipeline
    from .api.pipelines import run_pipeline as run_pipeline
    from .api.stdin import StdinPipe as StdinPipe
    from .api.supervised import JobResult as JobResult
    from .api.supervised import SupervisedJob as SupervisedJob
    from .api.supervising import Supervisor as Supervisor
    from .core.batch import Batch as Batch
    from .core.capture import CaptureSpec as CaptureSpec
    from .core.contracts import Flow as Flow
    from .core.contracts import Output as Output
    from .core.exit import Exit as Exit
    from .core.lifecycle import State as State
    from .core.outputs import OutputFile as OutputFile
    from .core.policy import Availability as Availability
    from .core.policy import Condition as Condition
    from .core.policy import ExecCheck as ExecCheck
    from .core.policy import Health as Health
    from .core.policy import HttpCheck as HttpCheck
    from .core.policy import Privileges as Privileges
    from .core.policy import Probe as Probe
    from .core.policy import Restart as Restart
    from .core.policy import Shutdown as Shutdown
    from .core.policy import TcpCheck as TcpCheck
    from .core.result import Captured as Captured
    from .core.result import PipelineResult as PipelineResult
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
    from .supervisor.events import CaptureFailed as CaptureFailed
    from .supervisor.events import Event as Event
    from .supervisor.events import JobExited as JobExited
    from .supervisor.events import JobFailedToStart as JobFailedToStart
    from .supervisor.events import JobGivenUp as JobGivenUp
    from .supervisor.events import JobLeftRunning as JobLeftRunning
    from .supervisor.events import JobNotEnded as JobNotEnded
    from .supervisor.events import JobNotReady as JobNotReady
    from .supervisor.events import JobReady as JobReady
    from .supervisor.events import JobRestarting as JobRestarting
    from .supervisor.events import JobSkipped as JobSkipped
    from .supervisor.events import JobStarted as JobStarted
    from .supervisor.events import JobStatus as JobStatus
    from .supervisor.events import JobUnguarded as JobUnguarded
    from .supervisor.events import JobUnhealthy as JobUnhealthy
    from .supervisor.events import JobWaiting as JobWaiting
    from .supervisor.events import OutputDropped as OutputDropped
    from .supervisor.events import OutputFailed as OutputFailed
    from .supervisor.events import OutputLost as OutputLost
    from .supervisor.events import ShutdownFailed as ShutdownFailed
    from .supervisor.events import StillWaiting as StillWaiting
    from .supervisor.events import Stopping as Stopping
    from .supervisor.events import StraysKilled as StraysKilled

_HOME = {
    "RunningJob": ".api.jobs",
    "open_job": ".api.jobs",
    "run": ".api.jobs",
    "run_sync": ".api.jobs",
    "RunningPipeline": ".api.pipelines",
    "open_pipeline": ".api.pipelines",
    "run_pipeline": ".api.pipelines",
    "StdinPipe": ".api.stdin",
    "JobSpec": ".core.spec",
    "Line": ".core.textlines",
    "Exit": ".core.exit",
    "Captured": ".core.result",
    "PipelineResult": ".core.result",
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
    "Events": ".api.events",
    "EventsLost": ".api.events",
    "Lines": ".api.iterators",
    "Writes": ".api.iterators",
    "JobResult": ".api.supervised",
    "SupervisedJob": ".api.supervised",
    "Supervisor": ".api.supervising",
    "Batch": ".core.batch",
    "CaptureSpec": ".core.capture",
    "Flow": ".core.contracts",
    "Output": ".core.contracts",
    "State": ".core.lifecycle",
    "Availability": ".core.policy",
    "Condition": ".core.policy",
    "ExecCheck": ".core.policy",
    "Health": ".core.policy",
    "HttpCheck": ".core.policy",
    "Privileges": ".core.policy",
    "Probe": ".core.policy",
    "Restart": ".core.policy",
    "Shutdown": ".core.policy",
    "TcpCheck": ".core.policy",
    "OutputFile": ".core.outputs",
    "CaptureFailed": ".supervisor.events",
    "Event": ".supervisor.events",
    "JobExited": ".supervisor.events",
    "JobFailedToStart": ".supervisor.events",
    "JobGivenUp": ".supervisor.events",
    "JobLeftRunning": ".supervisor.events",
    "JobNotEnded": ".supervisor.events",
    "JobNotReady": ".supervisor.events",
    "JobReady": ".supervisor.events",
    "JobRestarting": ".supervisor.events",
    "JobSkipped": ".supervisor.events",
    "JobStarted": ".supervisor.events",
    "JobStatus": ".supervisor.events",
    "JobUnguarded": ".supervisor.events",
    "JobUnhealthy": ".supervisor.events",
    "JobWaiting": ".supervisor.events",
    "OutputDropped": ".supervisor.events",
    "OutputFailed": ".supervisor.events",
    "OutputLost": ".supervisor.events",
    "ShutdownFailed": ".supervisor.events",
    "StillWaiting": ".supervisor.events",
    "Stopping": ".supervisor.events",
    "StraysKilled": ".supervisor.events",
}

__all__ = sorted(_HOME)  # noqa: PLE0605 - a list of strings, though not a literal


if not TYPE_CHECKING:  # a type checker would take any name for one of ours

    def __getattr__(name: str) -> object:
        if name not in _HOME:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        from importlib import import_module

        value = getattr(import_module(_HOME[name], __name__), name)
        globals()[name] = value
        return value
