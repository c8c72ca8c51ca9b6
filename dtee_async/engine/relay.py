"""Owns the relay: a command in mode ``pipe`` whose bytes nobody has to look at goes to its outputs by tee(2) and splice(2)."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING

from ..core.platforms import has
from ..core.write import Stream
from ..errors import OutputError
from ..output.fdkind import Kind, kind_of, same_file
from ..output.file import FileOutput
from ..output.standard import StandardOutput
from ..transport.pipe import PipeTransport
from .duplication import Duplication, is_null

if TYPE_CHECKING:
    from ..core.contracts import Loop, Output, Transport
    from .protocol import Capture

Sinks = Mapping[Stream, Sequence[tuple["Output", int]]]


def plain_sinks(transport: Transport, outputs: Sequence[Output]) -> Sinks | None:
    """Where each stream goes, byte for byte; None if that is not all there is to it, and the outputs have to see the batches."""
    if not (isinstance(transport, PipeTransport) and has("splice")):
        return None
    sinks: dict[Stream, list[tuple[Output, int]]] = {stream: [] for stream in Stream}
    for output in outputs:
        fds = output.plain_fds() if isinstance(output, FileOutput | StandardOutput) else None
        if fds is None:
            return None
        for stream, fd in fds.items():
            sinks[stream].append((output, fd))
    return sinks if _can_be_apart(sinks) else None


def _can_be_apart(sinks: Sinks) -> bool:
    """Whether each stream can be moved by itself: in the same file they would write over each other."""
    out, err = ([fd for _, fd in sinks[stream]] for stream in (Stream.STDOUT, Stream.STDERR))
    if not all(map(_can_be_relayed_to, out + err)):
        return False
    return not any(kind_of(one) is Kind.FILE and same_file(one, other) for one in out for other in err)


def _can_be_relayed_to(fd: int) -> bool:
    """On a terminal somebody reads both streams, in as good an order as there is; a socket may want each write by itself."""
    return kind_of(fd) in (Kind.FILE, Kind.PIPE) or is_null(fd)


class Relay:
    """What Reading is to a Command, but it moves: each stream is duplicated to its outputs, which never see a byte.

    SIGPIPE must be ignored: a pipe of ours breaks, too, when what is behind it fails. A stream that
    no output takes any more goes nowhere, so that the command does not wait for ever.
    """

    def __init__(self, loop: Loop, transport: PipeTransport, protocol: Capture, sinks: Sinks, *, linger: bool) -> None:
        """``linger``: writers that the command leaves behind are waited for. Raises OSError: too few fds or threads."""
        self._loop = loop
        self._transport = transport
        self._protocol = protocol
        self._sinks = sinks
        self._linger = linger
        self._finishing = False
        self._closed = False
        self._moving: dict[Stream, Duplication] = {}
        self._lost_streams: set[Stream] = set()
        self._nowhere = os.open(os.devnull, os.O_WRONLY | os.O_CLOEXEC)
        try:
            for stream, each in sinks.items():
                self._moving[stream] = self._duplication(stream, [fd for _, fd in each])
        except BaseException:
            for duplication in self._moving.values():
                duplication.close()
            os.close(self._nowhere)
            raise
        protocol.connection_made(self)

    def _duplication(self, stream: Stream, fds: Sequence[int]) -> Duplication:
        source = self._transport.open[stream]
        ended, lost = partial(self._ended, stream), partial(self._lost, stream)
        return Duplication(self._loop, source, fds or [self._nowhere], ended, enlarge=True, lazy=True, on_lost=lost)

    def resume_reading(self) -> None:
        """Begin; called again it does nothing, as nothing was paused."""
        if not self._finishing:
            for duplication in list(self._moving.values()):
                duplication.start()

    def pause_reading(self) -> None:
        """A pipe that is full says so by itself."""

    def read(self) -> int:
        """Have moved what is in the pipes now; 0 when it is: until then the outputs count as full."""
        if self._linger:  # its writers may go on
            self._linger = False
            return 0
        if self._finishing or not self._moving:
            return 0
        self._finishing = True
        self._protocol.output_paused()
        for duplication in list(self._moving.values()):
            duplication.finish()
        return 1

    def _ended(self, stream: Stream) -> None:
        moved = self._moving.pop(stream)
        if self._closed:
            return
        if moved.failure is not None:
            self._protocol.error_received(moved.failure)
        if stream not in self._lost_streams and (moved.failure is not None or all(sunk.error is not None for sunk in moved.result.sinks)):
            self._lost_streams.add(stream)
            nowhere = self._moving[stream] = self._duplication(stream, [])
            nowhere.start()
            if self._finishing:
                nowhere.finish()
            return
        self._transport.ended(stream)
        if self._finishing and not self._moving:
            self._loop.call_later(0, self._protocol.output_resumed)  # not from inside of read()

    def _lost(self, stream: Stream, index: int, error: OSError) -> None:
        output, _ = self._sinks[stream][index]
        if isinstance(output, StandardOutput):
            error = OutputError(error.errno, f"write: {error.strerror}", stream.name.lower())
        self._protocol.report(output, error)

    def close(self) -> None:
        """Close everything; may be called twice. What the threads have in their hands, they write."""
        if self._closed:
            return
        self._closed = True
        for duplication in list(self._moving.values()):
            duplication.close()
        os.close(self._nowhere)
        self._transport.close()
        self._protocol.connection_lost(None)
