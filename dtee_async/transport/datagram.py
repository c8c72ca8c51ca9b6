"""Owns the capture mode ``ordered``: two Unix datagram sockets for the child, connected to one receiver of ours.

The kernel keeps one queue per receiver, so the order across stdout and stderr is exact, and the
sender's address tells the stream. The rules that keep it so:

- The sockets live in a directory of mode 0700 and are unlinked, and the directory removed, before
  the child starts: nobody can connect afterwards. What was queued until then is thrown away.
- Path sockets, not abstract ones: abstract names have no permissions (unix(7)).
- A datagram from any other address is dropped. A datagram of no bytes is an ordinary write: there
  is no end of file on a datagram socket.
"""

from __future__ import annotations

import contextlib
import os
import socket
import struct
from errno import ENAMETOOLONG
from functools import partial

from ..core.batch import Batch, Stamps
from ..core.write import Stream
from ..errors import CaptureError
from .recvmmsg import CONTROL_BYTES, LARGEST_BYTES, SLOT_BYTES, SLOTS, ReceiveBuffer

BATCH_BYTES = 1 << 20
"""A batch aims at this size: the number of writes received at once follows the size of the recent ones."""

SMALL_BATCH_BYTES = BATCH_BYTES // SLOTS
"""A batch of no more than this has no write that is too large for a full vector."""

_SO_TIMESTAMPNS = getattr(socket, "SO_TIMESTAMPNS", 35)
_SUN_PATH_BYTES = 108
_FAMILY_BYTES = struct.calcsize("H")
_SENDERS = {Stream.STDOUT: b"1", Stream.STDERR: b"2"}
_TO_STREAM = bytes.maketrans(b"12", bytes([Stream.STDOUT, Stream.STDERR]))
_STAMP = struct.Struct("@16xqq16xiii4x")  # cmsghdr, timespec, cmsghdr, ucred, padding: 64 bytes


class DatagramTransport:
    """The receiving side of one child's stdout and stderr."""

    mode = "ordered"
    exact = True

    def __init__(self, buffer: ReceiveBuffer, *, stamped: bool = False) -> None:
        """Make the sockets. ``stamped``: capture the kernel's time and the writer's pid of each write.

        Raises CaptureError that names the directory and the reason.
        """
        self._buffer = buffer
        self._stamped = stamped
        self._limit = 1
        self._senders: dict[Stream, socket.socket] = {}
        try:
            self._receiver = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        except OSError as error:
            raise CaptureError(error.errno, f"socket: {error.strerror}") from error
        self._fd = self._receiver.fileno()
        try:
            self._path = _private_directory()
        except CaptureError:
            self.close()
            raise
        try:
            self._connect()
        except OSError as error:
            self.close()
            raise CaptureError(error.errno, f"socket: {error.strerror}", os.fsdecode(self._path)) from error
        finally:
            _remove(self._path)
        self._prefix = self._path + b"/"
        self._name_bytes = _FAMILY_BYTES + len(self._prefix) + 2  # the sender's letter and the closing NUL
        self._letter = _FAMILY_BYTES + len(self._prefix)
        (self._tail,) = struct.unpack("=Q", self._prefix[-8:])
        self._throw_away_queue()

    def _connect(self) -> None:
        receiver = self._receiver
        if len(self._path) + 3 > _SUN_PATH_BYTES:
            raise OSError(ENAMETOOLONG, f"the path is too long for a socket address ({_SUN_PATH_BYTES} bytes): set TMPDIR")
        receiver.bind(self._path + b"/0")
        receiver.setblocking(False)
        if self._stamped:
            receiver.setsockopt(socket.SOL_SOCKET, _SO_TIMESTAMPNS, 1)
            receiver.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
        for stream, letter in _SENDERS.items():
            sender = self._senders[stream] = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
            # The kernel doubles the value and cuts it at net.core.wmem_max; the largest write is the result less 32.
            sender.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SLOT_BYTES // 2)
            sender.bind(self._path + b"/" + letter)
            sender.connect(self._path + b"/0")
            sender.shutdown(socket.SHUT_RD)

    def _throw_away_queue(self) -> None:
        while self._buffer.receive(self._fd, self._buffer.slots, self._name_bytes, stamped=self._stamped):
            self._buffer.reset()

    @property
    def child_fds(self) -> dict[Stream, int]:
        """What the child gets as its stdout and stderr."""
        return {stream: sender.fileno() for stream, sender in self._senders.items()}

    @property
    def largest_write_bytes(self) -> int:
        """A larger write of the child fails, with EMSGSIZE or ENOBUFS."""
        sender = self._senders[Stream.STDOUT]
        return min(LARGEST_BYTES, sender.getsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF) - 32)

    def release_child_fds(self) -> None:
        """Close our copies of the senders."""
        for sender in self._senders.values():
            sender.close()
        self._senders.clear()

    def fileno(self) -> int:
        """The receiver."""
        return self._fd

    def receive(self) -> Batch | None:
        """One recvmmsg(2): the writes that are queued now, at most 64 of them and about 1 MiB."""
        buffer = self._buffer
        try:
            count = buffer.receive(self._fd, self._limit, self._name_bytes, stamped=self._stamped)
        except OSError as error:
            raise CaptureError(error.errno, f"input socket: {error.strerror}") from error
        if not count:
            return None
        letters, known = buffer.senders(count, self._letter, self._tail)
        stamps = partial(self._stamps, count) if self._stamped else None
        batch = Batch(*buffer.take(count), letters.translate(_TO_STREAM), stamps)
        if not known:
            batch = self._without_strangers(batch)
        if self._limit != buffer.slots or batch.size_bytes > SMALL_BATCH_BYTES:
            largest = max(batch.lengths, default=0) or 1
            self._limit = max(1, min(self._limit * 2, BATCH_BYTES // largest, buffer.slots))
        return batch

    def _without_strangers(self, batch: Batch) -> Batch:
        """Drop the datagrams that did not come from one of our two sockets."""
        ours = {self._prefix + letter + b"\0" for letter in _SENDERS.values()}
        keep = [i for i in range(len(batch)) if self._buffer.name(i) in ours]
        self._buffer.reset()
        times_ns, pids = batch.stamps()
        stamps = [times_ns[i] for i in keep], [pids[i] for i in keep]
        streams = bytes(batch.streams[i] for i in keep)
        return Batch([batch.views[i] for i in keep], [batch.lengths[i] for i in keep], streams, lambda: stamps)

    def recycle(self, batch: Batch) -> None:
        """The memory that an unusually large batch took goes back to the system."""
        self._buffer.trim()

    def _stamps(self, count: int) -> Stamps:
        seconds, nanoseconds, pids, _, _ = zip(*_STAMP.iter_unpack(self._buffer.control[: count * CONTROL_BYTES]), strict=True)
        return tuple(s * 1_000_000_000 + ns for s, ns in zip(seconds, nanoseconds, strict=True)), pids

    def queue_limit(self) -> int:
        """net.unix.max_dgram_qlen: a sender blocks when one more than that is queued (unix(7))."""
        try:
            with open("/proc/sys/net/unix/max_dgram_qlen", "rb") as file:
                return int(file.read()) + 1
        except (OSError, ValueError):
            return 1024  # more than any system is known to set

    def writers_left(self) -> bool:
        """Whether one of the senders is still open in any process: /proc/net/unix lists it until the last one closes it."""
        try:
            with open("/proc/net/unix", "rb") as file:
                table = file.read()
        except OSError:
            return False
        return any(self._prefix + letter in table for letter in _SENDERS.values())

    def close(self) -> None:
        """Close every socket."""
        self.release_child_fds()
        self._receiver.close()


def _private_directory() -> bytes:
    """Make a directory for the sockets, as mkdtemp(3) would: in TMPDIR, or else in memory where that is possible.

    Nothing is stored in it, and making sockets on a disk takes several times as long.
    """
    own = os.environ.get("TMPDIR")
    parents = [own] if own else ["/dev/shm", "/tmp"]  # noqa: S108 - a directory of mode 0700 is made there
    for parent in parents:
        try:
            return _make_directory(os.fsencode(parent))
        except OSError as error:
            if parent == parents[-1]:
                raise CaptureError(error.errno, f"temporary directory: {error.strerror}", parent) from error
    raise AssertionError("unreachable")


def _make_directory(parent: bytes) -> bytes:
    while True:
        stem = os.path.join(parent, b"dtee-async-")
        # As long as it takes for the sender's letter to stand on a multiple of eight in the address: see ReceiveBuffer.senders.
        digits = 12 + -(_FAMILY_BYTES + len(stem) + 12 + 1) % 8
        path = stem + os.urandom(10).hex().encode()[:digits]
        with contextlib.suppress(FileExistsError):
            os.mkdir(path, 0o700)
            return path


def _remove(path: bytes) -> None:
    for letter in (b"0", *_SENDERS.values()):
        with contextlib.suppress(FileNotFoundError):
            os.unlink(path + b"/" + letter)
    os.rmdir(path)
