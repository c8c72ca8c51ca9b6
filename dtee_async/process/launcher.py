"""Owns the last steps of a child between fork and exec: its fds, terminal, limits and user; then it becomes the command.

Only the process itself can do these, and no Python may run between fork and exec. So this is a
program of its own, which ends as the command, with the same pid, directory and environment
(see launch.py for our side):

    python -I -S -X utf8 launcher.py REPORT_FD LOCALE STEPS COMMAND ...

REPORT_FD is a pipe. ``+`` is written to it when only the exec is left to be done, and the exec
closes it; an errno in decimal says what has failed, and before the ``+`` the step's name follows. LOCALE is
``LC_CTYPE=VALUE`` as it was given, or ``LC_CTYPE`` if it was not. STEPS are lines of a name and
numbers, done in their order. ``-X utf8``: then every argument has the bytes that it was given.
"""

from __future__ import annotations

import os
import sys

# `signal` makes enums of them, which is a fifth of all the time that we take.
from _signal import SIG_DFL, SIGINT, SIGPIPE, SIGXFSZ, default_int_handler, getsignal, signal
from errno import EIO, EPERM
from fcntl import F_DUPFD_CLOEXEC, fcntl, ioctl
from stat import S_ISCHR, S_ISFIFO
from termios import TIOCSCTTY

READY = b"+"


def _launch(report: int, locale: str, steps: str, argv: list[str]) -> None:
    name = ""
    try:
        os.set_inheritable(report, False)
        _restore_signals()
        _forget_coercion(locale)
        os.get_exec_path()  # imports what execvp() takes: the command's user may not be allowed to read our library
        for step in steps.splitlines():
            name, *words = step.split()
            numbers = [int(word) for word in words]
            if name == "fds":
                report = _place_fds(numbers, report)
            else:
                _do(name, numbers)
        name = ""
        os.write(report, READY)
        os.execvp(argv[0], argv)  # noqa: S606 - running what the user wrote is what we are for
    except BaseException as error:  # noqa: BLE001 - a traceback would be taken for output of the command
        number = error.errno if isinstance(error, OSError) else None
        os.write(report, f"{number or EIO} {name}".encode())
        os._exit(127)


def _do(name: str, numbers: list[int]) -> None:
    match name:
        case "terminal":
            ioctl(1, TIOCSCTTY, 0)
        case "umask":
            os.umask(numbers[0])
        case "nice":
            os.setpriority(os.PRIO_PROCESS, 0, numbers[0])
        case "groups":
            os.setgroups(numbers)
        case "group":
            os.setgid(numbers[0])
        case "user":
            _give_streams(numbers[0])
            os.setuid(numbers[0])
        case _:  # limits.NAME
            _limit(*numbers)


def _limit(resource: int, soft: int, hard: int) -> None:
    from resource import setrlimit

    try:
        setrlimit(resource, (soft, hard))
    except ValueError as error:  # CPython's word for it; soft is not above hard, so it is not the other one
        raise OSError(EPERM, os.strerror(EPERM)) from error


def _place_fds(numbers: list[int], report: int) -> int:
    """Move fds to other numbers, given as pairs of the old and the new one; our own report is moved out of their way."""
    from resource import RLIMIT_NOFILE, getrlimit, setrlimit

    sources, targets = numbers[::2], numbers[1::2]
    limits = getrlimit(RLIMIT_NOFILE)
    setrlimit(RLIMIT_NOFILE, (limits[1], limits[1]))  # so that there is room above them all; what is open stays open
    room = max(targets) + 1
    copies = [fcntl(source, F_DUPFD_CLOEXEC, room) for source in sources]
    report = fcntl(report, F_DUPFD_CLOEXEC, room)
    for source in set(sources):
        os.close(source)
    for copy, target in zip(copies, targets, strict=True):
        os.dup2(copy, target)
    setrlimit(RLIMIT_NOFILE, limits)
    return report


def _give_streams(user: int) -> None:
    """Let the user open /dev/stdout and /dev/stderr: pipes and terminals belong to who made them, and only he may."""
    for fd in (1, 2):
        mode = os.fstat(fd).st_mode
        if S_ISFIFO(mode) or (S_ISCHR(mode) and os.isatty(fd)):
            os.fchown(fd, user, -1)


def _restore_signals() -> None:
    """CPython ignores two of them, and an exec keeps that. SIGINT it catches, and would show a traceback at Ctrl-C until the exec."""
    for number in (SIGPIPE, SIGXFSZ):
        signal(number, SIG_DFL)
    if getsignal(SIGINT) is default_int_handler:  # else it was ignored, and stays so
        signal(SIGINT, SIG_DFL)


def _forget_coercion(locale: str) -> None:
    """In the C locale CPython sets LC_CTYPE in its environment, which the command would inherit (PEP 538): back to what was given."""
    _, is_set, value = locale.partition("=")
    if is_set:
        os.environ["LC_CTYPE"] = value
    else:
        os.environ.pop("LC_CTYPE", None)


if __name__ == "__main__":
    _launch(int(sys.argv[1]), sys.argv[2], sys.argv[3], sys.argv[4:])
