"""Owns ``--doctor``: what this system offers to each capture mode, and for each limit what to change and what that buys."""

from __future__ import annotations

import os
import platform
import resource
from collections.abc import Iterator
from typing import NamedTuple

from ..core.platforms import FACILITIES, HERE, default_mode, has, promise
from ..errors import CaptureError
from ..transport.buffer import LARGEST_BYTES, receive_buffer
from ..transport.datagram import DatagramTransport
from ..transport.pipe import LARGE_PIPE_BYTES
from ..version import __version__
from .text import worded

LONG_QUEUE = 512
"""What systemd sets net.unix.max_dgram_qlen to."""

MANY_FILES = 8192


class Finding(NamedTuple):
    """One limit: what it is, what to do about it and what that buys; nothing to do: empty."""

    what: str
    value: str
    remedy: str = ""
    gain: str = ""


def report() -> str:
    """The whole text."""
    system = platform.uname()
    python = platform.python_version()
    lines = [f"dtee-async {__version__}, Python {python}, {system.system} {system.release} ({system.machine})", "", "Capture modes:"]
    for mode, note in _modes():
        lines.append(f"  {mode:<10} {note}")
    lines += ["", "Limits:"]
    for finding in _limits():
        lines.append(f"  {finding.what:<34} {finding.value}")
        if finding.remedy:
            lines.append(f"  {'':<34}   to change: {finding.remedy}")
            lines.append(f"  {'':<34}   it buys:   {finding.gain}")
    lines += ["", "This system has:"]
    lines += [f"  {name:<14} {'yes' if has(name) else 'no'}" for name in FACILITIES]
    return "\n".join(lines) + "\n"


def _modes() -> Iterator[tuple[str, str]]:
    for mode in ("ordered", "turnstile", "pipe", "pty"):
        exact, lossless = promise(HERE, mode)
        if not (exact or lossless):
            yield mode, "not on this system"
            continue
        order = "exact order" if exact else "order by time of reading"
        complete = "complete" if lossless else "can lose output"
        tried = {"ordered": _ordered, "turnstile": _turnstile}.get(mode, str)()
        yield mode, f"{order}, {complete}{_NOTES.get(mode, '')}" + (f"; tried: {tried}" if tried else "")
    yield "auto", f"{default_mode(HERE)}, or what the command is known to need"


_NOTES = {
    "ordered": ", up to the largest write; not for node and /dev/stderr",
    "turnstile": ", for writes that do not overlap",
    "pty": ", one stream for both",
}


def _ordered() -> str:
    """Nothing if it works: its limits are told below."""
    largest = _largest_ordered()
    return "" if isinstance(largest, int) else f"it cannot be had: {largest}"


def _turnstile() -> str:
    refusal = _refusal(no_new_privs=False) if has("seccomp") else "this system has no seccomp"
    if refusal is None:
        return "it works, and takes nothing away from the command"
    if has("seccomp") and _refusal(no_new_privs=True) is None:
        return "it works with no_new_privs; sudo, su and ping do not work in the command then"
    return f"it cannot be had: {refusal}"


def _refusal(*, no_new_privs: bool) -> str | None:
    """Why there can be no filter; None if there can be."""
    from ..transport.seccomp import FilteredThread

    try:
        thread = FilteredThread(1, 2, no_new_privs=no_new_privs)
    except CaptureError as error:
        return error.strerror
    thread.end()
    os.close(thread.listener)
    return None


def _limits() -> Iterator[Finding]:
    yield _largest_write()
    if has("proc"):
        yield from _queue()
        yield from _pipes()
    yield _files()


def _largest_ordered() -> int | str:
    """The largest write, or why there can be none."""
    try:
        transport = DatagramTransport(receive_buffer())
    except CaptureError as error:
        return worded(error)
    largest = transport.largest_write_bytes
    transport.close()
    return largest


def _largest_write() -> Finding:
    what = "largest write in mode ordered"
    largest = _largest_ordered()
    if isinstance(largest, str):
        return Finding(what, f"none: {largest}", "set TMPDIR to a folder that can be written and has a short path", "mode ordered")
    value = f"{largest:,} bytes"
    if largest >= LARGEST_BYTES or not has("proc"):
        return Finding(what, value)
    now = _read("net/core/wmem_max")
    remedy = f"sysctl net.core.wmem_max={LARGEST_BYTES // 2 + 4096}" + (f" (now {now})" if now is not None else "")
    return Finding(what, value, remedy, f"writes of up to {LARGEST_BYTES:,} bytes; turnstile and pipe have no such limit")


def _queue() -> Iterator[Finding]:
    length = _read("net/unix/max_dgram_qlen")
    if length is None:
        return
    value = f"{length + 1} writes"
    gain = "about a third less processor time for busy commands; non-blocking programs can be that many writes ahead of us"
    yield Finding("queue in mode ordered", value, *((f"sysctl net.unix.max_dgram_qlen={LONG_QUEUE}", gain) if length < LONG_QUEUE else ()))


def _pipes() -> Iterator[Finding]:
    largest, soft = _read("fs/pipe-max-size"), _read("fs/pipe-user-pages-soft")
    if largest is not None:
        remedy = (f"sysctl fs.pipe-max-size={LARGE_PIPE_BYTES}", "larger writes in one piece") if largest < LARGE_PIPE_BYTES else ()
        yield Finding("largest pipe", f"{largest:,} bytes", *remedy)
    if soft is not None:
        size_bytes = soft * resource.getpagesize()
        value = "unlimited" if not soft or os.geteuid() == 0 else f"{size_bytes:,} bytes: {size_bytes // LARGE_PIPE_BYTES} large ones"
        yield Finding("all pipes of one user", value)


def _files() -> Finding:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY:
        return Finding("open files", "unlimited")
    value = f"{soft:,}"
    if soft != hard:
        value += f"; --jobs raises it to {'unlimited' if hard == resource.RLIM_INFINITY else f'{hard:,}'}"
    if hard == resource.RLIM_INFINITY or hard >= MANY_FILES:
        return Finding("open files", value)
    gain = "more jobs at once: each takes 2 to 5, and one or two for each of its files"
    return Finding("open files", value, f"ulimit -n {MANY_FILES} as root", gain)


def _read(name: str) -> int | None:
    """A number of /proc/sys."""
    try:
        with open(f"/proc/sys/{name}", "rb") as file:
            return int(file.read())
    except (OSError, ValueError):
        return None
