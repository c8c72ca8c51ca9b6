"""Owns our side of the launcher: the start of a child that leads a terminal of its own, and what is to be said if it cannot."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from errno import E2BIG, EIO, ENOENT
from typing import Any

from ..core.exit import signal_text
from ..errors import SpawnError
from . import launcher

REPORT_BYTES = 64


def popen(argv: Sequence[str], *, close_fds: bool, **settings: Any) -> subprocess.Popen[bytes]:
    """subprocess.Popen for a child that leads a session and whose stdout is to be its controlling terminal; with the same errors.

    Raises SpawnError as well, when it is not the command's fault.
    """
    if not sys.executable:
        raise _launcher_failed(ENOENT, "no Python interpreter: sys.executable is not set")
    reader, writer = os.pipe()
    try:
        try:
            process = _start(argv, writer, close_fds=close_fds, **settings)
        finally:
            os.close(writer)
        return _checked(process, reader, argv[0])
    finally:
        os.close(reader)


def _start(argv: Sequence[str], report: int, *, close_fds: bool, **settings: Any) -> subprocess.Popen[bytes]:
    locale = _locale(settings.get("env"))
    words = [sys.executable, "-I", "-S", "-X", "utf8", launcher.__file__, str(report), locale, *argv]
    if not close_fds:
        os.set_inheritable(report, True)  # pass_fds would close all the others
    try:
        return subprocess.Popen(  # noqa: S603 - this interpreter, our own file
            words, close_fds=close_fds, pass_fds=[report] if close_fds else [], **settings
        )
    except OSError as error:
        if error.filename != sys.executable:
            raise
        if error.errno == E2BIG:
            raise OSError(error.errno, error.strerror, argv[0]) from error
        raise _launcher_failed(error.errno or EIO, error.strerror or "") from error


def _locale(environment: Mapping[str, str] | None) -> str:
    value = (os.environ if environment is None else environment).get("LC_CTYPE")
    return "LC_CTYPE" if value is None else f"LC_CTYPE={value}"


def _checked(process: subprocess.Popen[bytes], reader: int, command: str) -> subprocess.Popen[bytes]:
    """The process, when it has become the command. Raises what an exec would have raised."""
    try:
        report = _read_all(reader)
    except BaseException:
        process.kill()
        process.wait()
        raise
    if report == launcher.READY:  # the exec has closed the pipe, or it was killed on the way, which its status will tell
        return process
    status = process.wait()
    if report.startswith(launcher.READY):
        number = int(report.removeprefix(launcher.READY))
        raise OSError(number, os.strerror(number), command)
    if report:
        raise _launcher_failed(int(report), os.strerror(int(report)))
    raise _launcher_failed(EIO, f"killed by {signal_text(-status)}" if status < 0 else f"it exited with status {status}")


def _read_all(fd: int) -> bytes:
    data = b""
    while piece := os.read(fd, REPORT_BYTES):
        data += piece
    return data


def _launcher_failed(number: int, reason: str) -> SpawnError:
    return SpawnError(number, f"what is to give it a terminal cannot be started: {reason}", sys.executable or "python")
