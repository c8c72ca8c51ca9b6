"""Owns what a command is given to read: bytes, a file, a stream of bytes, or a pipe that the caller writes to."""

from __future__ import annotations

import os
from collections.abc import AsyncGenerator, AsyncIterable
from typing import TYPE_CHECKING, Literal, Protocol

import anyio

from ..errors import ConfigError, SpawnError

if TYPE_CHECKING:
    from types import TracebackType
    from typing import Self


class HasFileno(Protocol):
    """A file, a socket, anything with an fd."""

    def fileno(self) -> int: ...


Input = None | bytes | HasFileno | AsyncIterable[bytes] | Literal["inherit"]
"""None: /dev/null, where nothing is read. ``"inherit"``: ours."""
Stdin = Input | Literal["pipe"]
"""``"pipe"``: ``job.stdin``."""


def refuse_pipe(stdin: object, use: str) -> None:
    """Where nobody would have the other end of it. Raises ConfigError."""
    if stdin == "pipe":
        raise ConfigError(f'stdin: nobody could write to a "pipe": use {use}(), or give bytes, a file, an async iterator, or "inherit"')


def make_pipe() -> tuple[int, int]:
    """Its read end and its write end. Raises SpawnError."""
    try:
        return os.pipe()
    except OSError as error:
        raise SpawnError(error.errno, f"stdin: {error.strerror}") from error


class StdinPipe:
    """The write end of a command's stdin. ``send()`` waits while the command does not read. Its errors are anyio's."""

    def __init__(self) -> None:
        """Raises SpawnError."""
        self.child_fd: int
        self.child_fd, self._fd = make_pipe()
        os.set_blocking(self._fd, False)

    async def send(self, data: bytes) -> None:
        """Write all of it. One task at a time: a second one that has to wait raises BusyResourceError.

        Raises BrokenResourceError when the command reads no more, ClosedResourceError after aclose() or the job's wait().
        """
        rest = memoryview(data)
        while rest:
            if self._fd < 0:
                raise anyio.ClosedResourceError("this stdin is closed")
            try:
                rest = rest[os.write(self._fd, rest) :]
            except BlockingIOError:
                await anyio.wait_writable(self._fd)
            except BrokenPipeError as error:
                raise anyio.BrokenResourceError("the command reads no more from its stdin") from error
        await anyio.lowlevel.checkpoint()

    async def send_all(self, chunks: AsyncIterable[bytes]) -> None:
        """Write what comes, and close; a command that reads no more ends that without a word."""
        try:
            async for chunk in chunks:
                if not await self._sent(chunk):
                    break
        finally:
            self.close()
            if isinstance(chunks, AsyncGenerator):
                await chunks.aclose()  # else its end is a task of the loop's, some time later

    async def _sent(self, data: bytes) -> bool:
        try:
            await self.send(data)
        except anyio.BrokenResourceError:
            return False
        return True

    def close_child_fd(self) -> None:
        """The command has its own now. May be called twice."""
        if self.child_fd >= 0:
            os.close(self.child_fd)
            self.child_fd = -1

    def close(self) -> None:
        """The command reads the end of its input. May be called twice."""
        fd, self._fd = self._fd, -1
        if fd >= 0:
            anyio.notify_closing(fd)
            os.close(fd)

    async def aclose(self) -> None:
        """The command reads the end of its input. May be called twice."""
        self.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()


async def one_chunk(data: bytes) -> AsyncIterable[bytes]:
    """The data, as a stream."""
    yield data
