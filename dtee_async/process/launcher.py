"""Owns the last step of a child that leads a terminal of its own: it makes its stdout the controlling terminal, and becomes the command.

Only the leader of a session can do that, so it cannot be done for the child; and no Python may run
between fork and exec. So this is a program of its own, which ends as the command, with the same
pid, directory, environment and fds (see terminal.py for our side):

    python -I -S -X utf8 launcher.py REPORT_FD LOCALE COMMAND ...

REPORT_FD is a pipe. ``+`` is written to it when only the exec is left to be done, and the exec
closes it; an errno in decimal says what has failed. LOCALE is ``LC_CTYPE=VALUE`` as it was given, or
``LC_CTYPE`` if it was not. ``-X utf8``: then every argument has the bytes that it was given.
"""

from __future__ import annotations

import os
import sys

# `signal` makes enums of them, which is a fifth of all the time that we take.
from _signal import SIG_DFL, SIGINT, SIGPIPE, SIGXFSZ, default_int_handler, getsignal, signal  # type: ignore[import-not-found]
from fcntl import ioctl
from termios import TIOCSCTTY

READY = b"+"


def _launch(report: int, locale: str, argv: list[str]) -> None:
    os.set_inheritable(report, False)
    _restore_signals()
    _forget_coercion(locale)
    try:
        ioctl(1, TIOCSCTTY, 0)
        os.write(report, READY)
        os.execvp(argv[0], argv)  # noqa: S606 - running what the user wrote is what we are for
    except OSError as error:
        os.write(report, b"%d" % (error.errno or 0))
        os._exit(127)


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
    _launch(int(sys.argv[1]), sys.argv[2], sys.argv[3:])
