"""Owns the start of a child: from an argument vector to a running process and its pidfd."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Mapping, Sequence
from errno import ECHILD, EINVAL, ENOEXEC
from typing import NamedTuple

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
    its working directory; UnknownExitStatusError when it was over, and reaped, before we could look.
    """
    try:
        try:
            process = _popen(plan, list(plan.argv), stdout, stderr)
        except OSError as error:
            if error.errno != ENOEXEC:
                raise
            # A script without a `#!` line is a shell script, for execvp(3) as for the shell.
            process = _popen(plan, ["/bin/sh", *plan.argv], stdout, stderr)
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
    filename = plan.argv[0] if error.filename is None else os.fsdecode(error.filename)
    kind = CommandNotFoundError if isinstance(error, FileNotFoundError) and filename == plan.argv[0] else SpawnError
    return kind(error.errno, error.strerror, filename)


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
