"""Owns the pump: it moves bytes from a pipe to an fd that may block, in a thread or in a process of its own.

A write to a regular file cannot be made non-blocking: on a frozen or hung filesystem it waits in
the kernel, and a process with such a thread cannot even be killed. So a loop that serves many
commands never writes to a file. It writes to a pipe, which it can poll, and a pump stands at the
other end. Run as a program, this file is a process full of pumps:

    python -I -S pump.py CONTROL_FD

CONTROL_FD is a SOCK_SEQPACKET socket. A request is ``id path`` with one or two fds attached (the
pipe, and the file unless it has to be opened here by its path); an answer is ``id errno``: errno
0 says that the pipe came to its end and everything is written, anything else that a write failed.
"""

from __future__ import annotations

import os
import socket
import stat
import struct
import sys
import threading
from collections.abc import Callable
from errno import EINVAL

ANSWER = struct.Struct("=ii")
REQUEST = struct.Struct("=i")
CHUNK_BYTES = 1 << 20
COPY_BYTES = 64 * 1024
SPLICE = hasattr(os, "splice") and not {"splice", "all"} & set(os.environ.get("DTEE_ASYNC_WITHOUT", "").split(","))
"""As core.platforms.has() would say it, which is not there for a program on its own."""


def pump(pipe: int, target: int, failed: Callable[[int], None]) -> None:
    """Move everything from the pipe to the target until no writer is left, then close both.

    ``failed`` is told the errno once per run of failures; the bytes that could not be written are
    gone then, and the next ones are tried again.
    """
    failing = False
    move = _splice if _can_splice(target) else _copy
    try:
        while True:
            try:
                if not move(pipe, target):
                    return
                failing = False
            except OSError as error:
                if error.errno == EINVAL and move is _splice:
                    move = _copy  # this filesystem has no splice_write
                    continue
                # splice(2) leaves in the pipe what it cannot write; and says EPIPE also where there is nothing to write.
                if move is _splice and not os.read(pipe, COPY_BYTES):
                    return
                if not failing:
                    failing = True
                    failed(error.errno or EINVAL)
    finally:
        os.close(pipe)
        os.close(target)


def _can_splice(target: int) -> bool:
    import fcntl

    mode = os.fstat(target).st_mode
    appending = fcntl.fcntl(target, fcntl.F_GETFL) & os.O_APPEND  # EINVAL in splice(2)
    return SPLICE and not appending and (stat.S_ISREG(mode) or stat.S_ISFIFO(mode))


def _splice(pipe: int, target: int) -> int:
    return os.splice(pipe, target, CHUNK_BYTES)


def _copy(pipe: int, target: int) -> int:
    data = os.read(pipe, COPY_BYTES)
    rest = memoryview(data)
    while rest:
        rest = rest[os.write(target, rest) :]
    return len(data)


def _serve(control: socket.socket) -> None:
    files: set[threading.Thread] = set()
    while True:
        try:
            message, fds, _, _ = socket.recv_fds(control, 8192, 2)
        except ConnectionResetError:  # it was killed, and had not read all that we said
            break
        if not message:
            break
        (ident,) = REQUEST.unpack_from(message)
        path = message[REQUEST.size :]
        thread = threading.Thread(target=_run, args=(control, ident, fds, path), daemon=True)
        thread.start()
        if not path:
            files.add(thread)
        files = {thread for thread in files if thread.is_alive()}
    # The supervisor is gone. Its files still get what is in their pipes; a FIFO that nobody reads does not keep us.
    for thread in files:
        thread.join()


def _run(control: socket.socket, ident: int, fds: list[int], path: bytes) -> None:
    def answer(number: int) -> None:
        # Nobody listens any more when the supervisor is gone: there is nobody left to tell, either.
        try:
            control.send(ANSWER.pack(ident, number))
        except OSError as error:
            del error

    try:
        target = os.open(path, os.O_WRONLY | os.O_CLOEXEC) if path else fds[1]
    except OSError as error:
        os.close(fds[0])
        answer(error.errno or EINVAL)
    else:
        pump(fds[0], target, answer)
    answer(0)


if __name__ == "__main__":
    import signal

    signal.signal(signal.SIGPIPE, signal.SIG_IGN)
    threading.stack_size(256 * 1024)
    _serve(socket.socket(fileno=int(sys.argv[1])))
    os._exit(0)
