"""Owns the start of a child: from an argument vector to a running process."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Mapping, Sequence
from errno import EINVAL, ENOENT, ENOEXEC
from typing import Any, NamedTuple, NoReturn

from ..core.contracts import ChildFds
from ..errors import CommandNotFoundError, SpawnError
from .child import Child, Kin, watch
from .programs import find_program, is_without_interpreter

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ..core.policy import Privileges
    from .fdlimit import FdLimit

_NO_FDS: Mapping[int, int] = {}


class SpawnPlan(NamedTuple):
    """How to start a command.

    ``stdin``: True gives the child ours, False gives it /dev/null; a number, that fd of ours, which stays
    ours. ``stdout``: such an fd in the place of what captures it. ``own_session``: the child leads a session and a
    process group of its own, and inherits none of our fds; else it stays in ours (unless it gets a terminal of its
    own) and gets whatever inheritable fds we were given ourselves. ``privileges``: as whom it runs, None as we do.
    ``extra_fds``: the child's number -> our fd, which stays ours; with ``own_session`` only. ``fd_limit``: whose soft
    limit of open fds it gets, None for ours. ``kin``: who is told of it.
    """

    argv: Sequence[str]
    working_dir: str | None = None
    environment: Mapping[str, str] | None = None
    own_session: bool = True
    stdin: bool | int = False
    privileges: Privileges | None = None
    extra_fds: Mapping[int, int] = _NO_FDS
    fd_limit: FdLimit | None = None
    kin: Kin | None = None
    stdout: int | None = None


def spawn(plan: SpawnPlan, fds: ChildFds) -> Child:
    """Start the command with these fds; vfork(2) inside, so no Python of ours runs in the child.

    Raises CommandNotFoundError or SpawnError, whose ``filename`` says whether it was the command or
    its working directory (None: the text says what it was, such as ``fork`` or ``limits.nofile``);
    UnknownExitStatusError when it was over, and reaped, before we could look.
    """
    try:
        _refuse_nothing(plan)
        if plan.fd_limit is None:
            process = _start(plan, fds)
        else:
            with plan.fd_limit.lowered():
                process = _start(plan, fds)
    except SpawnError:
        raise
    except (OSError, ValueError) as error:
        raise _spawn_error(error, plan) from error
    # We reap by ourselves, for the resource usage: Popen must not wait for this pid again, ever.
    process.returncode = 0
    child = watch(process.pid, plan.argv[0])
    if plan.kin is None:
        return child
    plan.kin.add(child.pid)
    return child._replace(kin=plan.kin)


def _start(plan: SpawnPlan, fds: ChildFds) -> subprocess.Popen[bytes]:
    steps = ["terminal"] if fds.terminal else []
    if plan.privileges is not None and plan.privileges.asked:
        from .privileges import resolve, with_login

        more, login = resolve(plan.privileges)
        steps += more
        if login:
            plan = plan._replace(environment=with_login(plan.environment, login))
    try:
        return _run(plan, fds, steps)
    except OSError as error:
        if error.errno != ENOEXEC:
            raise
        return _popen(plan, _argv_for_sh(plan), fds, steps)


def _run(plan: SpawnPlan, fds: ChildFds, steps: Sequence[str]) -> subprocess.Popen[bytes]:
    """Where we know where the program is, the child need not try one folder of PATH after the other, while we wait for it."""
    found = None if "/" in plan.argv[0] or steps or plan.extra_fds else find_program(plan.argv[0], plan.environment, plan.working_dir)
    if found is not None:
        try:
            return _popen(plan, list(plan.argv), fds, steps, executable=found)
        except (FileNotFoundError, NotADirectoryError, PermissionError):
            pass  # execvp(3) goes on along PATH
        except OSError as error:
            if error.filename == found:
                error.filename = plan.argv[0]
            raise
    return _popen(plan, _argv(plan), fds, steps)


def _popen(plan: SpawnPlan, argv: list[str], fds: ChildFds, steps: Sequence[str], executable: str | None = None) -> subprocess.Popen[bytes]:
    settings: dict[str, Any] = {
        "stdin": _stdin(plan, fds),
        "stdout": fds.stdout if plan.stdout is None else plan.stdout,
        "stderr": fds.stderr,
        "cwd": plan.working_dir,
        "env": plan.environment,
        "start_new_session": plan.own_session or fds.terminal,
    }
    if not steps and not plan.extra_fds:
        process: subprocess.Popen[bytes] = subprocess.Popen(  # noqa: S603 - it is what we are for
            argv, executable=executable, close_fds=plan.own_session, **settings
        )
        return process
    from .launch import popen

    return popen(argv, steps=steps, extra_fds=plan.extra_fds, close_fds=plan.own_session, **settings)


def _stdin(plan: SpawnPlan, fds: ChildFds) -> int | None:
    """None: ours is inherited."""
    if fds.stdin is not None:
        return fds.stdin
    if isinstance(plan.stdin, bool):
        return None if plan.stdin else subprocess.DEVNULL
    return plan.stdin


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
            argv = _argv(plan)
            os.execvp(argv[0], argv)  # noqa: S606 - running what the user wrote is what we are for
        except OSError as error:
            if error.errno != ENOEXEC:
                raise
            os.execv("/bin/sh", _argv_for_sh(plan))  # noqa: S606
    except OSError as error:
        raise SpawnError(error.errno, error.strerror, plan.argv[0]) from error


def _refuse_nothing(plan: SpawnPlan) -> None:
    """An empty name is not there, for execvp(3); CPython would find the folders of PATH by it."""
    if not plan.argv[0]:
        raise FileNotFoundError(ENOENT, os.strerror(ENOENT), "")


def _argv(plan: SpawnPlan) -> list[str]:
    """What to run. CPython goes on along PATH behind a script without a `#!` line, and execvp(3) runs it."""
    name = plan.argv[0]
    found = None if "/" in name else find_program(name, plan.environment, plan.working_dir)
    return _argv_for_sh(plan) if found and is_without_interpreter(found, plan.working_dir) else list(plan.argv)


def _argv_for_sh(plan: SpawnPlan) -> list[str]:
    """A script without a `#!` line is a shell script, for execvp(3) as for the shell, which would not look for it in PATH."""
    found = find_program(plan.argv[0], plan.environment, plan.working_dir)
    return ["/bin/sh", found or plan.argv[0], *plan.argv[1:]]
