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
from errno import ENAMETOOLONG, EOPNOTSUPP
from functools import partial

from ..core.batch import Batch
from ..core.contracts import ChildFds
from ..core.platforms import HERE, LINUX, Platform, has
from ..core.write import Stream
from ..errors import CaptureError
from .buffer import LARGEST_BYTES, SLOT_BYTES, SLOTS

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from ..core.contracts import T
    from .buffer import Buffer

BATCH_BYTES = 1 << 20
"""A batch aims at this size: the number of writes received at once follows the size of the recent ones."""

SMALL_BATCH_BYTES = BATCH_BYTES // SLOTS
"""A batch of no more than this has no write that is too large for a full vector."""

_SO_TIMESTAMPNS = getattr(socket, "SO_TIMESTAMPNS", 35)
MANY = 1024
"""More writes than any system is known to queue."""

_SO_SNDBUFFORCE = 32
_FAMILY_BYTES = struct.calcsize("H")
_SENDERS = {Stream.STDOUT: b"1", Stream.STDERR: b"2"}
_TO_STREAM = bytes.maketrans(b"12", bytes([Stream.STDOUT, Stream.STDERR]))


class DatagramTransport:
    """The receiving side of one child's stdout and stderr."""

    mode = "ordered"
    exact = True
    apart = True

    def __init__(self, buffer: Buffer, *, stamped: bool = False, platform: Platform = HERE) -> None:
        """Make the sockets. ``stamped``: capture the time and the writer's pid of each write, as far as the system tells them.

        Raises CaptureError that names the directory and the reason.
        """
        if not platform.addressed:
            raise CaptureError(EOPNOTSUPP, "capture mode ordered: on this system a datagram does not tell its sender")
        self._buffer = buffer
        self._stamped = stamped
        self._platform = platform
        self._limit = 1
        self._loss: CaptureError | None = None
        self._senders: dict[Stream, socket.socket] = {}
        try:
            self._receiver = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        except OSError as error:
            raise CaptureError(error.errno, f"socket: {error.strerror}") from error
        self._fd = self._receiver.fileno()
        self.fds: Sequence[int] = (self._fd,)
        try:
            self._path = _private_directory()
        except CaptureError:
            self.close()
            raise
        self._prefix = self._path + b"/"
        self._name_bytes = _FAMILY_BYTES + len(self._prefix) + 2  # the sender's letter and the closing NUL
        self._letter = _FAMILY_BYTES + len(self._prefix)
        (self._tail,) = struct.unpack("=Q", self._prefix[-8:])
        try:
            self._connect()
        except OSError as error:
            self.close()
            raise CaptureError(error.errno, f"socket: {error.strerror}", os.fsdecode(self._path)) from error
        finally:
            _remove(self._path)
        self._throw_away_queue()

    def _connect(self) -> None:
        receiver = self._receiver
        room = self._platform.address_bytes
        if len(self._path) + 3 > room:
            raise OSError(ENAMETOOLONG, f"the path is too long for a socket address ({room} bytes): set TMPDIR")
        receiver.bind(self._path + b"/0")
        receiver.setblocking(False)
        if self._platform is not LINUX:  # which does not use SO_RCVBUF here (unix(7))
            _enlarge(receiver, socket.SO_RCVBUF, self._platform.receive_buffer_bytes)
        if self._platform.loss_option is not None:
            with contextlib.suppress(OSError):  # a version that has no such option reports every loss, or none
                receiver.setsockopt(socket.SOL_SOCKET, self._platform.loss_option, 1)
        if self._stamped and has("timestamps"):
            receiver.setsockopt(socket.SOL_SOCKET, _SO_TIMESTAMPNS, 1)
        if self._stamped and has("credentials"):
            receiver.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
        for stream, letter in _SENDERS.items():
            sender = self._senders[stream] = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
            _enlarge(sender, socket.SO_SNDBUF, self._platform.send_buffer_bytes)
            if self._platform is LINUX:
                with contextlib.suppress(PermissionError):  # it takes CAP_NET_ADMIN to go beyond net.core.wmem_max (socket(7))
                    sender.setsockopt(socket.SOL_SOCKET, _SO_SNDBUFFORCE, SLOT_BYTES // 2)
            sender.bind(self._path + b"/" + letter)
            sender.connect(self._path + b"/0")
            sender.shutdown(socket.SHUT_RD)

    def _throw_away_queue(self) -> None:
        try:
            while self._buffer.receive(self._fd, self._buffer.slots, self._name_bytes, stamped=self._stamped):
                self._buffer.reset()
        except OSError as error:
            self.close()
            raise CaptureError(error.errno, f"input socket: {error.strerror}") from error

    @property
    def largest_write_bytes(self) -> int:
        """A larger write of the child fails, with EMSGSIZE or ENOBUFS."""
        sender = self._senders[Stream.STDOUT]  # unless it makes the buffer of its stdout larger itself: see Buffer.trouble()
        return min(LARGEST_BYTES, sender.getsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF) - 32)

    def sockets(self) -> set[int]:
        """The inodes of what the child is given, before launch()."""
        return {os.fstat(sender.fileno()).st_ino for sender in self._senders.values()}

    def launch(self, spawn: Callable[[ChildFds], T]) -> T:
        """Spawn the child with the two senders, then close ours."""
        try:
            return spawn(ChildFds(self._senders[Stream.STDOUT].fileno(), self._senders[Stream.STDERR].fileno()))
        finally:
            self._close_senders()

    def _close_senders(self) -> None:
        for sender in self._senders.values():
            sender.close()
        self._senders.clear()

    def receive(self) -> Batch | None:
        """The writes that are queued now, at most 64 of them and about 1 MiB."""
        buffer = self._buffer
        try:
            count = buffer.receive(self._fd, self._limit, self._name_bytes, stamped=self._stamped)
        except OSError as error:
            raise CaptureError(error.errno, f"input socket: {error.strerror}") from error
        if not count:
            if self._loss is not None:
                self._tell_loss()
            return None
        letters, usual = buffer.senders(count, self._letter, self._tail)
        stamps = partial(buffer.stamps, count) if self._stamped else None
        batch = Batch(*buffer.take(count), letters.translate(_TO_STREAM), stamps)
        if not usual:
            self._loss = buffer.trouble(count)
            batch = self._without_strangers(batch)
        if self._limit != buffer.slots or batch.size_bytes > SMALL_BATCH_BYTES:
            largest = max(batch.lengths, default=0) or 1
            self._limit = max(1, min(self._limit * 2, BATCH_BYTES // largest, buffer.slots))
            if largest == buffer.slot_bytes:
                self._loss = buffer.trouble(count)
        if self._loss is not None:
            self._limit = 0  # the next receive finds nothing, and tells it
        return batch

    def _tell_loss(self) -> None:
        loss, self._loss, self._limit = self._loss, None, 1
        assert loss is not None
        raise loss

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

    def queue_limit(self) -> int:
        """net.unix.max_dgram_qlen: a sender blocks when one more than that is queued (unix(7))."""
        if not has("proc"):
            return MANY
        try:
            with open("/proc/sys/net/unix/max_dgram_qlen", "rb") as file:
                return int(file.read()) + 1
        except (OSError, ValueError):
            return MANY

    def writers_left(self) -> bool:
        """Whether one of the senders is still open in any process: /proc/net/unix lists it until the last one closes it.

        Where there is no such list, nobody is said to be left.
        """
        if not has("proc"):
            return False
        try:
            with open("/proc/net/unix", "rb") as file:
                table = file.read()
        except OSError:
            return False
        return any(self._prefix + letter in table for letter in _SENDERS.values())

    def close(self) -> None:
        """Close every socket."""
        self._close_senders()
        self._receiver.close()


def _enlarge(of: socket.socket, option: int, size_bytes: int | None) -> None:
    """Make a buffer of a socket this large (None: as large as we can receive), or what comes nearest to it; never smaller than it is.

    Linux doubles the value and cuts it at net.core.wmem_max (socket(7)); the largest write is the
    result less 32. Other systems refuse what is too large for them: then half of it is tried, and so on.
    """
    wanted = size_bytes or SLOT_BYTES // 2
    while wanted > of.getsockopt(socket.SOL_SOCKET, option):
        with contextlib.suppress(OSError):
            of.setsockopt(socket.SOL_SOCKET, option, wanted)
            return
        wanted //= 2


def _private_directory() -> bytes:
    """Make a directory for the sockets, as mkdtemp(3) would: in TMPDIR, or else in memory where that is possible.

    Nothing is stored in it, and making sockets on a disk takes several times as long.
    """
    own = os.environ.get("TMPDIR")
    memory = ["/dev/shm"] * has("memory_folder")  # noqa: S108 - a directory of mode 0700 is made there
    parents = [own] if own else [*memory, "/tmp"]  # noqa: S108 - the same
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
