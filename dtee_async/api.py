"""Owns what an async application calls: thin over supervisor.job."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime

import anyio
from anyio.lowlevel import RunVar

from .core.capture import CaptureSpec
from .core.contracts import Output
from .core.outputs import output_files
from .core.result import Result
from .core.spec import JobSpec
from .engine.captures import Captures
from .errors import CommandFailedError, LoopError, OutputError
from .output.memory import MemoryOutput
from .supervisor.files import open_in_host
from .supervisor.job import Job
from .supervisor.service import close_all

Paths = str | os.PathLike[str] | Sequence[str | os.PathLike[str]]

_captures: RunVar[Captures] = RunVar("dtee_async_captures")


async def run(
    command: str | Sequence[str | os.PathLike[str]],
    *,
    working_dir: str | os.PathLike[str] | None = None,
    environment: Mapping[str, str] | None = None,
    out_append: Paths = (),
    out_overwrite: Paths = (),
    err_append: Paths = (),
    err_overwrite: Paths = (),
    combined_append: Paths = (),
    combined_overwrite: Paths = (),
    capture: str = "auto",
    watch_fds: str = "1-2",
    no_new_privs: bool = False,
    stderr_apart: bool = False,
    wait_for: str = "exit",
    linger_s: float | None = None,
    check: bool = False,
    grace_s: float = 10.0,
) -> Result:
    """Run a command and keep every write it makes, in order; its stdin is /dev/null, its session its own.

    ``command``: an argument vector, or a string for the shell. ``environment`` is added to ours.
    The six output keys copy a stream, or both in order, to files. ``capture`` is the capture mode,
    with ``watch_fds``, ``no_new_privs`` and ``stderr_apart`` as in a jobs file; the result says which
    it was and what it promises. ``wait_for``: the command's ``exit``, after which ``writers`` that it
    left are listened to for ``linger_s`` (1 s), or the last of them (an hour). Cancelling ends the
    whole process group (TERM, ``grace_s`` seconds, KILL), and the files get all that was captured.

    Raises ConfigError, OutputError, CaptureError, SpawnError (CommandNotFoundError, which is a
    FileNotFoundError, when there is no such program), UnknownExitStatusError; with ``check``,
    CommandFailedError, which carries the result; LoopError outside asyncio and uvloop.
    """
    loop = _running_loop()
    spec = JobSpec(
        name="run",
        command=command if isinstance(command, str) else tuple(os.fspath(word) for word in command),
        working_dir=None if working_dir is None else os.fspath(working_dir),
        environment=None if environment is None else {**os.environ, **environment},
        outputs=tuple(
            output_files(
                {
                    "out_append": _paths(out_append),
                    "out_overwrite": _paths(out_overwrite),
                    "err_append": _paths(err_append),
                    "err_overwrite": _paths(err_overwrite),
                    "combined_append": _paths(combined_append),
                    "combined_overwrite": _paths(combined_overwrite),
                }
            )
        ),
        capture=CaptureSpec(capture, watch_fds, no_new_privs, stderr_apart=stderr_apart),
        wait_for=wait_for,
        linger_s=linger_s,
    )
    memory = MemoryOutput()
    errors: list[OSError] = []

    def report(output: Output, error: OSError) -> None:
        errors.append(OutputError(error.errno, error.strerror, output.name))

    outputs: list[Output] = [memory, *open_in_host(spec.outputs, loop)]
    try:
        job = Job(loop, _captures_of_loop(), spec, outputs, report)
    except BaseException:
        close_all(outputs)
        raise
    started = datetime.now(UTC)
    job.start()
    try:
        outcome = await job.wait()
    except BaseException:
        with anyio.CancelScope(shield=True):
            await job.stop(grace_s)
        raise
    for error in (outcome.error, *errors):
        if error is not None:
            raise error
    result = Result(
        spec.title,
        outcome.exit,
        memory.captured(),
        mode=job.capturing.transport.mode,
        exact=job.capturing.transport.exact,
        lossless=job.lossless,
        reason=job.loss or job.capturing.reason,
        writers_left=outcome.writers_left,
        started=started,
        duration_s=outcome.duration_s,
    )
    if check and result.returncode != 0:
        raise CommandFailedError(result)
    return result


def _running_loop() -> asyncio.AbstractEventLoop:
    try:
        return asyncio.get_running_loop()
    except RuntimeError as error:
        raise LoopError(
            "dtee_async needs a running asyncio event loop (asyncio's own or uvloop's); none runs in this thread, trio's is none"
        ) from error


def _captures_of_loop() -> Captures:
    """What all captures of this loop share, gone with the loop."""
    try:
        return _captures.get()
    except LookupError:
        captures = Captures()
        _captures.set(captures)
        return captures


def _paths(value: Paths) -> list[str]:
    return [os.fspath(value)] if isinstance(value, str | os.PathLike) else [os.fspath(path) for path in value]
