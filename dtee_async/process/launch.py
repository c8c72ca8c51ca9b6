"""Owns our side of the launcher: the start of a child that has steps to take before its exec, and what is to be said if it cannot."""

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


def popen(
    argv: Sequence[str], *, steps: Sequence[str], extra_fds: Mapping[int, int], close_fds: bool, **settings: Any
) -> subprocess.Popen[bytes]:
    """subprocess.Popen for a child that takes these steps before it becomes the command; with the same errors.

    ``steps``: what the launcher is told, in its order. ``extra_fds``: the child's number -> our fd; they go with ``close_fds``.
    Raises SpawnError as well, when it is not the command's fault: its text names the step then.
    """
    assert close_fds or not extra_fds, "an inheritable fd of ours would be everybody's"
    if not sys.executable:
        raise _launcher_failed(ENOENT, "no Python interpreter: sys.executable is not set")
    if extra_fds:
        steps = ["fds " + " ".join(f"{source} {target}" for target, source in extra_fds.items()), *steps]
    reader, writer = os.pipe()
    try:
        try:
            words = [sys.executable, "-I", "-S", "-X", "utf8", launcher.__file__, str(writer)]
            words += [_locale(settings.get("env")), "\n".join(steps), *argv]
            process = _start(words, argv[0], writer, [*extra_fds.values()], close_fds=close_fds, **settings)
        finally:
            os.close(writer)
        return _checked(process, reader, argv[0])
    finally:
        os.close(reader)


def _start(
    words: Sequence[str], command: str, report: int, sources: Sequence[int], *, close_fds: bool, **settings: Any
) -> subprocess.Popen[bytes]:
    if not close_fds:
        os.set_inheritable(report, True)  # pass_fds would close all the others
    try:
        return subprocess.Popen(  # noqa: S603 - this interpreter, our own file
            words, close_fds=close_fds, pass_fds=[report, *sources] if close_fds else [], **settings
        )
    except OSError as error:
        if error.filename != sys.executable:
            raise
        if error.errno == E2BIG:
            raise OSError(error.errno, error.strerror, command) from error
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
    if not report:
        raise _launcher_failed(EIO, f"killed by {signal_text(-status)}" if status < 0 else f"it exited with status {status}")
    number, _, step = report.removeprefix(launcher.READY).decode().partition(" ")
    if report.startswith(launcher.READY):
        raise OSError(int(number), os.strerror(int(number)), command)
    raise SpawnError(int(number), f"{step}: {os.strerror(int(number))}")


def _read_all(fd: int) -> bytes:
    data = b""
    while piece := os.read(fd, REPORT_BYTES):
        data += piece
    return data


def _launcher_failed(number: int, reason: str) -> SpawnError:
    return SpawnError(number, f"what is to prepare it cannot be started: {reason}", sys.executable or "python")
