"""Owns the start of a child: from an argument vector to a running process and its pidfd."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Mapping, Sequence
from errno import ECHILD, EINVAL, ENOENT, ENOEXEC
from typing import NamedTuple, NoReturn

from ..core.exit import Exit, exit_from_wait
from ..errors import CommandNotFoundError, SpawnError, UnknownExitStatusError


class SpawnPlan(NamedTuple):
    """How to start a command.

    ``stdin``: True gives the child ours, False gives it /dev/null. ``own_session``: the child leads
    a session and a process group of its own, and inherits none of our fds; else it stays in ours
    and gets whatever inheritable fds we were given ourselves.
    """

    argv: Sequence[str]
    working_dir: str | None = None
    environment: Mapping[str, str] | None = None
    own_session: bool = True
    stdin: bool = False


class Child(NamedTuple):
    """A child that was not reaped yet: its pid cannot mean anybody else. Who spawned it owns the pidfd."""

    pid: int
    pidfd: int


def spawn(plan: SpawnPlan, stdout: int, stderr: int) -> Child:
    """Start the command with these fds as its stdout and stderr; vfork(2) inside, so no Python runs in the child.

    Raises CommandNotFoundError or SpawnError, whose ``filename`` says whether it was the command or
    its working directory (None: no process could be made); UnknownExitStatusError when it was over, and reaped, before we could look.
    """
    try:
        _refuse_nothing(plan)
        try:
            process = _popen(plan, list(plan.argv), stdout, stderr)
        except OSError as error:
            if error.errno != ENOEXEC:
                raise
            # A script without a `#!` line is a shell script, for execvp(3) as for the shell.
            process = _popen(plan, ["/bin/sh", _found(plan), *plan.argv[1:]], stdout, stderr)
    except (OSError, ValueError) as error:
        raise _spawn_error(error, plan) from error
    # We reap by ourselves, for the resource usage: Popen must not wait for this pid again, ever.
    process.returncode = 0
    try:
        return Child(process.pid, os.pidfd_open(process.pid))
    except ProcessLookupError as error:
        raise _status_taken(process.pid) from error
    except OSError as error:
        os.kill(process.pid, signal.SIGKILL)
        os.waitpid(process.pid, 0)
        raise SpawnError(error.errno, f"pidfd_open: {error.strerror}", plan.argv[0]) from error


def _popen(plan: SpawnPlan, argv: list[str], stdout: int, stderr: int) -> subprocess.Popen[bytes]:
    return subprocess.Popen(  # noqa: S603 - running what the user wrote is what we are for
        argv,
        stdin=None if plan.stdin else subprocess.DEVNULL,
        stdout=stdout,
        stderr=stderr,
        cwd=plan.working_dir,
        env=plan.environment,
        start_new_session=plan.own_session,
        close_fds=plan.own_session,
    )


def _spawn_error(error: OSError | ValueError, plan: SpawnPlan) -> SpawnError:
    if not isinstance(error, OSError):
        return SpawnError(EINVAL, f"cannot be started: {error}", plan.argv[0])
    if error.filename is None:
        return SpawnError(error.errno, f"fork: {error.strerror}")
    filename = os.fsdecode(error.filename)
    kind = CommandNotFoundError if isinstance(error, FileNotFoundError) and filename == plan.argv[0] else SpawnError
    return kind(error.errno, error.strerror, filename)


def become(plan: SpawnPlan) -> NoReturn:
    """Run the command of the plan in this process, with its environment and directory as they are. Raises SpawnError."""
    for number in (signal.SIGPIPE, signal.SIGXFSZ):
        signal.signal(number, signal.SIG_DFL)  # CPython ignores them; what is caught is the default again by itself
    try:
        _refuse_nothing(plan)
        try:
            os.execvp(plan.argv[0], list(plan.argv))  # noqa: S606 - running what the user wrote is what we are for
        except OSError as error:
            if error.errno != ENOEXEC:
                raise
            os.execv("/bin/sh", ["/bin/sh", _found(plan), *plan.argv[1:]])  # noqa: S606
    except OSError as error:
        raise SpawnError(error.errno, error.strerror, plan.argv[0]) from error


def _refuse_nothing(plan: SpawnPlan) -> None:
    """An empty name is not there, for execvp(3); CPython would find the folders of PATH by it."""
    if not plan.argv[0]:
        raise FileNotFoundError(ENOENT, os.strerror(ENOENT), "")


def _found(plan: SpawnPlan) -> str:
    """Where execvp(3) found a script that has no interpreter: the shell would not look for it in PATH."""
    name = plan.argv[0]
    if "/" in name:
        return name
    candidates = (os.path.join(folder, name) for folder in os.get_exec_path(plan.environment))
    return next((path for path in candidates if os.path.isfile(path) and os.access(path, os.X_OK)), name)


def reap(child: Child) -> Exit:
    """Wait for a child that has exited, and close its pidfd.

    Raises UnknownExitStatusError when somebody else has reaped it.
    """
    os.close(child.pidfd)
    try:
        _, status, usage = os.wait4(child.pid, 0)
    except ChildProcessError as error:
        raise _status_taken(child.pid) from error
    return exit_from_wait(status, usage)


def _status_taken(pid: int) -> UnknownExitStatusError:
    reason = "its exit status was taken by somebody else: is SIGCHLD ignored, or does another part of this program reap every child?"
    return UnknownExitStatusError(ECHILD, f"process {pid}: {reason}")
