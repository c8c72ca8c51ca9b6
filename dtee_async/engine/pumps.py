"""Owns the pumps of a loop: what makes a pipe out of a file that may block (see output.pump).

PumpThread is for a host application: one thread a file, from the first write to the last.
PumpProcess is for a supervisor: one process for all files, so that a frozen disk cannot keep the
supervisor itself from ending.
"""

from __future__ import annotations

import contextlib
import os
import socket
import stat
import subprocess
import sys
import threading
from collections import deque
from errno import ECONNRESET, EPIPE, ETOOMANYREFS
from typing import TYPE_CHECKING, Protocol

from ..errors import OutputError
from ..output import pump as pump_program

if TYPE_CHECKING:
    from collections.abc import Callable

    from ..core.contracts import Loop


class Client(Protocol):
    """Who has something written by a pump, and is told about it on the loop's thread."""

    name: str

    def failed(self, error: OSError) -> None:
        """A write failed; once per run of failures."""
        ...

    def delivered(self) -> None:
        """The pipe was closed, and everything is written."""
        ...

    def gone(self, error: OSError) -> None:
        """The pump was killed: nothing can be written any more."""
        ...


def open_pipe() -> tuple[int, int]:
    """A pipe whose write end does not block; of the default size: larger ones eat a limit that all programs of the user share."""
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    return reader, writer


RETRY_S = 0.01

ENDING_S = 0.5
"""How long the process may take to end when it has nothing left to write."""


class OpenFile:
    """An fd that somebody else takes over at the first write, or that is closed unused."""

    def __init__(self, fd: int | None) -> None:
        self._fd = fd

    def take(self) -> int:
        """The fd, now the caller's."""
        fd, self._fd = self._fd, None
        assert fd is not None
        return fd

    def close(self) -> None:
        if self._fd is not None:
            os.close(self.take())


class DirectFile(OpenFile):
    """A FIFO, terminal or device that we opened ourselves, non-blocking: no pump needed."""

    acknowledges = False

    def connect(self, client: Client) -> int:
        return self.take()


class ThreadedFile(OpenFile):
    """A file written by a thread of this process, which starts at the first write."""

    acknowledges = True

    def __init__(self, loop: Loop, fd: int) -> None:
        super().__init__(fd)
        self._loop = loop

    def connect(self, client: Client) -> int:
        reader, writer = open_pipe()
        arguments = client, reader, self.take()
        threading.Thread(target=self._run, args=arguments, name=f"dtee-async {client.name}", daemon=True).start()
        return writer

    def _run(self, client: Client, reader: int, fd: int) -> None:
        def failed(number: int) -> None:
            self._loop.call_soon_threadsafe(client.failed, OSError(number, os.strerror(number)))

        # A disk can be stuck for longer than the loop lives: then there is nobody left to tell.
        with contextlib.suppress(RuntimeError):
            pump_program.pump(reader, fd, failed)
            self._loop.call_soon_threadsafe(self._delivered, threading.current_thread(), client)

    def _delivered(self, thread: threading.Thread, client: Client) -> None:
        thread.join()  # that was the last that it did: who is told that all is over finds no thread any more
        client.delivered()


class PumpProcess:
    """One process that writes all the files of a supervisor. It starts with the first file that is written to."""

    def __init__(self, loop: Loop, on_start: Callable[[int], object] | None = None) -> None:
        """``on_start`` is told the pid, when it is started: it is no orphan."""
        self._loop = loop
        self._on_start = on_start
        self._control: socket.socket | None = None
        self._clients: dict[int, Client] = {}
        self._process: subprocess.Popen[bytes] | None = None
        self._requests: deque[tuple[bytes, list[int]]] = deque()
        self._serial = 0
        self._stuck = False

    def destination(self, fd: int | None, path: str) -> ProcessFile:
        """A destination for an open file that it takes over, or (None) for a FIFO, opened by the pump: opening one waits for a reader."""
        return ProcessFile(self, fd, path)

    def attach(self, client: Client, reader: int, fd: int | None, path: str) -> None:
        """Have what comes out of the pipe written by the process, which takes over both fds. Raises OSError if there can be none."""
        if self._control is None:
            self._control = self._start()
        self._serial += 1
        self._clients[self._serial] = client
        request = pump_program.REQUEST.pack(self._serial) + (os.fsencode(path) if fd is None else b"")
        self._requests.append((request, [reader] if fd is None else [reader, fd]))
        self._send_requests()

    def _send_requests(self) -> None:
        """Send as many requests as the process takes; when many jobs start at once, it may still be starting itself."""
        control = self._control
        if control is None:
            return
        while self._requests:
            request, fds = self._requests[0]
            try:
                socket.send_fds(control, [request], fds)
            except BlockingIOError:
                self._loop.add_writer(control.fileno(), self._send_requests)
                return
            except OSError as error:
                if error.errno == ETOOMANYREFS:  # more fds on their way than RLIMIT_NOFILE; nothing tells when they have arrived
                    self._loop.call_later(RETRY_S, self._send_requests)
                    return
                if error.errno not in (EPIPE, ECONNRESET):
                    raise
                return  # it was killed: _answered() is about to find out
            self._requests.popleft()
            for fd in fds:
                os.close(fd)
        self._loop.remove_writer(control.fileno())

    def _start(self) -> socket.socket:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            self._process = subprocess.Popen(  # noqa: S603 - this interpreter, our own file
                [sys.executable, "-I", "-S", pump_program.__file__, str(theirs.fileno())],
                stdin=subprocess.DEVNULL,
                pass_fds=[theirs.fileno()],
                cwd="/",
                start_new_session=True,  # Ctrl-C is for the jobs: their files are written to the end
            )
        if self._on_start is not None:
            self._on_start(self._process.pid)
        ours.setblocking(False)
        self._loop.add_reader(ours.fileno(), self._answered)
        return ours

    def _answered(self) -> None:
        assert self._control is not None
        try:
            answer = self._control.recv(pump_program.ANSWER.size)
        except BlockingIOError:
            return
        except ConnectionResetError:
            answer = b""
        if not answer:
            self._lost()
            return
        ident, number = pump_program.ANSWER.unpack(answer)
        client = self._clients.get(ident)
        if client is None:
            return
        if number:
            client.failed(OSError(number, os.strerror(number)))
        else:
            del self._clients[ident]
            client.delivered()

    def _lost(self) -> None:
        """Somebody killed the process: what was in its pipes is gone, and everybody who used it is told."""
        self.close()
        clients, self._clients = self._clients, {}
        for client in clients.values():
            client.gone(OutputError(EPIPE, "the process that writes the files was killed", client.name))

    def forget(self, client: Client) -> None:
        """Nobody waits for this one any more."""
        before = len(self._clients)
        self._clients = {ident: other for ident, other in self._clients.items() if other is not client}
        self._stuck = self._stuck or len(self._clients) < before

    def close(self) -> None:
        """Let the process go: it ends by itself when it has written what is in its pipes."""
        if self._control is None or self._process is None:
            return
        self._loop.remove_reader(self._control.fileno())
        self._loop.remove_writer(self._control.fileno())
        for _, fds in self._requests:
            for fd in fds:
                os.close(fd)
        self._requests.clear()
        self._control.close()
        self._control = None
        try:
            self._process.wait(0 if self._stuck else ENDING_S)
        except subprocess.TimeoutExpired:
            self._process.returncode = 0  # it is stuck in a write, or busy: init's to reap


class ProcessFile(OpenFile):
    """A file written by the pump process."""

    acknowledges = True

    def __init__(self, pumps: PumpProcess, fd: int | None, path: str) -> None:
        super().__init__(fd)
        self._pumps = pumps
        self._path = path
        self._client: Client | None = None

    def connect(self, client: Client) -> int:
        reader, writer = open_pipe()
        try:
            self._pumps.attach(client, reader, self._fd, self._path)
        except OSError:
            os.close(reader)
            os.close(writer)
            raise
        self._client, self._fd = client, None
        return writer

    def close(self) -> None:
        super().close()
        if self._client is not None:
            self._pumps.forget(self._client)


def is_fifo(path: str) -> bool:
    """Whether the path is a FIFO: opening one waits until somebody reads it (fifo(7))."""
    try:
        return stat.S_ISFIFO(os.stat(path).st_mode)
    except OSError:
        return False
