"""Owns the public zero-copy functions: tee(2) and splice(2), and ``await duplicate(source, *sinks)``."""

from __future__ import annotations

import asyncio

import anyio

from .engine.duplication import PIPE_BYTES, Duplicated, Duplication, Sunk
from .errors import LoopError
from .transport.zerocopy import FileDescriptorLike, SpliceFlag, descriptor, splice, tee

__all__ = ["Duplicated", "FileDescriptorLike", "SpliceFlag", "Sunk", "duplicate", "splice", "tee"]

STOP_S = 1.0
"""How long a cancelled duplication waits for a thread in a write: one on a hung filesystem waits in the kernel, and is left to itself."""


async def duplicate(
    source: FileDescriptorLike, *sinks: FileDescriptorLike, pipe_bytes: int = PIPE_BYTES, enlarge: bool = False
) -> Duplicated:
    """Copy everything from the source to every sink, until the source ends; by tee(2) and splice(2) wherever that can be.

    Fds, or objects with ``fileno()``; they stay open, and stay blocking if they are. Nobody else may
    read from the source meanwhile. A slow sink holds the others back when they are as far ahead as
    the source pipe is large. A sink that fails is left out, and ``result.sinks`` says why, in the
    order of the arguments; when all have failed, the rest stays in the source.

    Pipes that are made here have ``pipe_bytes``, where the system allows; ``enlarge`` also makes
    pipes that are given as large, which is faster, and which their other users keep.

    Cancelling stops at once: the source pipe keeps what not all sinks have; of a source that is
    something else, up to ``pipe_bytes`` may have been read and not written.

    Raises OSError when an fd is not open, the source cannot be read, or this system has no tee(2) (ENOSYS);
    ValueError without a sink; LoopError outside asyncio and uvloop.
    """
    if not sinks:
        raise ValueError("duplicate() needs a sink")
    try:
        loop = asyncio.get_running_loop()
    except RuntimeError as error:
        raise LoopError("duplicate() needs a running asyncio event loop (asyncio's own or uvloop's)") from error
    done = asyncio.Event()
    fds = [descriptor(sink) for sink in sinks]
    duplication = Duplication(loop, descriptor(source), fds, done.set, pipe_bytes=pipe_bytes, enlarge=enlarge)
    try:
        duplication.start()
        await done.wait()
    finally:
        duplication.close()
        if not done.is_set():
            with anyio.move_on_after(STOP_S, shield=True):
                await done.wait()
    if duplication.failure is not None:
        raise duplication.failure
    return duplication.result
