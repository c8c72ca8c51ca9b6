"""Owns seccomp(2): a filter that announces writes before they are made, a thread that carries it, and the answers (seccomp_unotify(2)).

A filter belongs to a thread and to what that thread starts. So no code has to run in the child
between fork and exec: a thread of ours installs the filter in itself and spawns the child. It
does not end before the capture does: to the kernel it is the child's parent, and a child can ask
to be killed when its parent ends (PR_SET_PDEATHSIG in prctl(2)).
"""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import os
import signal
import struct
import threading
from errno import EACCES, EAGAIN, EBUSY, EINVAL, ENOSYS
from fcntl import ioctl
from typing import NamedTuple

from ..errors import CaptureError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

_PR_SET_NO_NEW_PRIVS = 38
_SET_MODE_FILTER = 1
_NEW_LISTENER, _SPEC_ALLOW, _WAIT_KILLABLE_RECV = 8, 4, 32
_RET_USER_NOTIF, _RET_ALLOW = 0x7FC00000, 0x7FFF0000

_NOTIF_BYTES = 80
NOTIF_RECV = 0xC0502100
_NOTIF_SEND = 0xC0182101
_NOTIF_SET_FLAGS = 0x40082104
_SYNC_WAKE_UP = 1
_CONTINUE = struct.pack("=QqiI", 0, 0, 0, 1)
_ID_BYTES = 8
_ZERO = bytes(_NOTIF_BYTES)
_NOTIF = struct.Struct("=QI4xiI8x16xQ")  # id, pid (of the thread), system call, architecture, its third argument


class _Arch(NamedTuple):
    """An architecture as seccomp(2) sees it: its AUDIT_ARCH, and the calls that write, each with the place of its fd argument."""

    audit: int
    write: int
    calls: dict[int, int]


# write, writev, pwritev2, sendfile(64), vmsplice: argument 0; tee: 1; splice: 2
_ARCHES = {
    "x86_64": _Arch(0xC000003E, 1, {1: 0, 20: 0, 328: 0, 40: 0, 278: 0, 276: 1, 275: 2}),
    "i386": _Arch(0x40000003, 4, {4: 0, 146: 0, 379: 0, 187: 0, 239: 0, 316: 0, 315: 1, 313: 2}),
    "aarch64": _Arch(0xC00000B7, 64, {64: 0, 66: 0, 287: 0, 71: 0, 75: 0, 77: 1, 76: 2}),
}
_MACHINES = {"x86_64": (317, ("x86_64", "i386")), "aarch64": (277, ("aarch64",))}
"""The number of seccomp(2), and the architectures that programs on this machine can have."""

_LOAD, _JUMP_EQUAL, _JUMP_GREATER_EQUAL, _JUMP_GREATER, _RETURN = 0x20, 0x15, 0x35, 0x25, 0x06  # BPF, as <linux/bpf_common.h> has it
_ARGUMENTS = 16
"""Where the arguments begin in struct seccomp_data; their low words are all that counts for an fd, and both machines are little-endian."""


def _step(code: int, if_true: int, if_false: int, value: int) -> bytes:
    return struct.pack("=HBBI", code, if_true, if_false, value)


def build_filter(machine: str, first_fd: int, last_fd: int) -> bytes:
    """The filter as struct sock_filter[]: announce a call that writes to one of these fds, allow all others."""
    allow = _step(_RETURN, 0, 0, _RET_ALLOW)
    program = b""
    for name in _MACHINES[machine][1]:
        arch = _ARCHES[name]
        block = _step(_LOAD, 0, 0, 0)  # the number of the call
        for argument in sorted(set(arch.calls.values())):
            numbers = [number for number, place in arch.calls.items() if place == argument]
            for left in range(len(numbers) - 1, -1, -1):
                # One of these: over the rest of them, to the check. None of these: over the check, which has five steps.
                block += _step(_JUMP_EQUAL, left, 0 if left else 5, numbers[-1 - left])
            block += _step(_LOAD, 0, 0, _ARGUMENTS + 8 * argument)
            block += _step(_JUMP_GREATER_EQUAL, 0, 2, first_fd) + _step(_JUMP_GREATER, 1, 0, last_fd)
            block += _step(_RETURN, 0, 0, _RET_USER_NOTIF) + allow
        block += allow
        program += _step(_LOAD, 0, 0, 4) + _step(_JUMP_EQUAL, 0, len(block) // 8, arch.audit) + block
    return program + allow


def _install(program: bytes, machine: str, *, no_new_privs: bool) -> int:
    """Install the filter in this thread, for good; the fd of its listener.

    Without the privilege (CAP_SYS_ADMIN) it takes no_new_privs, which is set only if that is allowed.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    steps = ctypes.create_string_buffer(program, len(program))
    filter = ctypes.create_string_buffer(struct.pack("@HP", len(program) // 8, ctypes.addressof(steps)))
    flags = _NEW_LISTENER | _SPEC_ALLOW | _WAIT_KILLABLE_RECV
    while True:
        fd: int = libc.syscall(_MACHINES[machine][0], _SET_MODE_FILTER, flags, filter)
        if fd >= 0:
            return fd
        error = ctypes.get_errno()
        if error == EACCES and no_new_privs:
            no_new_privs = False
            libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
        elif error == EINVAL and flags & _WAIT_KILLABLE_RECV:
            flags &= ~_WAIT_KILLABLE_RECV  # before Linux 5.19
        else:
            raise OSError(error, os.strerror(error))


_REASONS = {
    EBUSY: "a turnstile is around this process already",
    EACCES: "it takes CAP_SYS_ADMIN, or no_new_privs, with which sudo, su and ping do not work in the command",
    EINVAL: "this kernel or sandbox has no seccomp user notification",
    ENOSYS: "this kernel or sandbox has no seccomp",
}


def _refusal(number: int, text: str | None = None) -> CaptureError:
    return CaptureError(number, text or _REASONS.get(number) or os.strerror(number))


def _linux_version(release: str) -> tuple[int, int]:
    """The first two numbers: of ``6.1.0-38-amd64``, ``6.12+bpo`` and ``7.0-rc1``."""
    major, _, rest = release.partition(".")
    minor = rest[: len(rest) - len(rest.lstrip("0123456789"))]
    return int(major), int(minor or 0)


def _eventfd_above(last_fd: int) -> int:
    """An eventfd that the filter does not watch: who carries the filter is to write to it."""
    fd = os.eventfd(0, os.EFD_CLOEXEC)
    try:
        return fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, last_fd + 1)
    finally:
        os.close(fd)


class FilteredThread:
    """A thread that carries a filter, and calls one function: what it spawns there carries the filter too."""

    def __init__(self, first_fd: int, last_fd: int, *, no_new_privs: bool) -> None:
        """Start it. Raises CaptureError that says why there can be no filter."""
        system = os.uname()
        if system.machine not in _MACHINES:
            raise _refusal(ENOSYS, f"there is no filter for {system.machine}")
        if _linux_version(system.release) < (5, 5):
            raise _refusal(ENOSYS, f"it takes Linux 5.5, this is {system.release}")
        self.listener: int = -1
        """The caller's to close."""
        try:
            self.returned: int = _eventfd_above(last_fd)
        except OSError as error:
            raise _refusal(error.errno or EINVAL) from error
        self._program = build_filter(system.machine, first_fd, last_fd), system.machine
        self._allowed = no_new_privs
        self._call: Callable[[], None] | None = None
        self._error = OSError()
        self._installed, self._told = threading.Semaphore(0), threading.Semaphore(0)
        self._thread = threading.Thread(target=self._main, name="dtee-async turnstile", daemon=True)
        self._start()
        if self.listener < 0:
            self.end()
            raise _refusal(self._error.errno or EINVAL) from self._error

    def _start(self) -> None:
        before = signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())  # none is for this thread
        try:
            self._thread.start()
        except RuntimeError as error:
            os.close(self.returned)
            raise _refusal(EAGAIN, str(error)) from error
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)
        self._installed.acquire()

    def _main(self) -> None:
        try:
            self.listener = _install(*self._program, no_new_privs=self._allowed)
        except OSError as error:
            self._error = error
        self._installed.release()
        self._told.acquire()
        call, self._call = self._call, None
        if call is not None:
            call()
            os.eventfd_write(self.returned, 1)
            self._told.acquire()

    def call(self, function: Callable[[], None]) -> None:
        """Let it call the function, which must not raise, with the signal mask of the caller: the child inherits it. Not twice.

        ``returned`` is readable when the function has returned.
        """
        mask = signal.pthread_sigmask(signal.SIG_BLOCK, ())

        def masked() -> None:
            ours = signal.pthread_sigmask(signal.SIG_SETMASK, mask)
            function()
            signal.pthread_sigmask(signal.SIG_SETMASK, ours)

        self._call = masked
        self._told.release()

    def is_me(self, pid: int) -> bool:
        """Whether this is the id of the thread."""
        return pid == self._thread.native_id

    def end(self) -> None:
        """Wait until it has ended; it calls nothing if it was not told to. May be called twice."""
        if self.returned >= 0:
            self._told.release()
            self._thread.join()
            os.close(self.returned)
            self.returned = -1


class Announcement(NamedTuple):
    """A write that is about to be made. ``size_bytes``: what it was asked to write; -1 for calls that do not say it in one number."""

    pid: int
    size_bytes: int


class Listener:
    """The supervisor's side of a filter: who is announced waits in the kernel until it is answered."""

    def __init__(self, fd: int, memory: memoryview) -> None:
        """``memory``: zeroed, more than 1024 bytes, so that ioctl() has the kernel write right into it: somebody may be watching."""
        self.fd = fd
        self._memory = memory
        self._notification, self._id = memory[:_NOTIF_BYTES], memory[:_ID_BYTES]
        self._answer = bytearray(_CONTINUE)
        self._answered_id = memoryview(self._answer)[:_ID_BYTES]
        with contextlib.suppress(OSError):  # before Linux 6.6: slower
            ioctl(fd, _NOTIF_SET_FLAGS, _SYNC_WAKE_UP)  # the writer runs at once, where we run
        self._write_calls = {(arch.write, arch.audit) for arch in _ARCHES.values()}

    def receive(self) -> None:
        """The next announcement; waits for one. Raises FileNotFoundError when the writer was killed or interrupted meanwhile."""
        ioctl(self.fd, NOTIF_RECV, self._memory)

    def announcement(self) -> Announcement:
        """Who was announced."""
        _, pid, call, arch, size_bytes = _NOTIF.unpack_from(self._memory)
        return Announcement(pid, size_bytes if (call, arch) in self._write_calls else -1)

    def go_on(self) -> None:
        """Let the announced write be made. Raises FileNotFoundError when its writer was killed."""
        self._answered_id[:] = self._id
        try:
            ioctl(self.fd, _NOTIF_SEND, self._answer)
        finally:
            self._notification[:] = _ZERO

    def close(self) -> None:
        """Let go of the memory; the fd is not ours."""
        self._notification.release()
        self._id.release()
