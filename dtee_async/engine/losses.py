"""Owns what shows only while a command runs: that output is, or may be, lost in mode ``ordered``.

Two things are noticed. Node.js writes nothing to a datagram socket and says nothing about it: when
its program is executed, we look whether whoever runs it has one of our sockets as its stdout. And a
write that is too large for a datagram fails: the command says so itself, on its stderr.
"""

from __future__ import annotations

import os
import time
from errno import EMSGSIZE
from typing import TYPE_CHECKING

from ..core.write import Stream
from ..process.execwatch import ExecWatch, runners, sockets_written_by
from ..process.programs import find_program

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping

    from ..core.batch import Batch
    from ..core.contracts import Flow, Loop, Timer
    from ..core.exit import Exit

NODE = ("node", "nodejs")

AFTER_OPEN_S = 0.01
"""Between the opening of a program and our look: it is opened first, and runs then. Node needs several times as long to say anything."""

LOOK_AGAIN_S = 1.0
"""After so long it is looked again whether node is there, and where."""

TAIL_BYTES = 4096
_TOO_LONG = {b"Message too long", os.strerror(EMSGSIZE).encode()}


class NodeNotice:
    """Tells when a process that runs node has a watched socket as its stdout or stderr. One for all commands of a loop."""

    def __init__(self, *, keep: bool = False) -> None:
        """``keep``: the fd, once there is one. To close it takes the kernel some milliseconds: else it stays for a while, for the next."""
        self._keep = keep
        self._closing: Timer | None = None
        self._watch: ExecWatch | None = None
        self._wanted: dict[int, Callable[[str], None]] = {}
        self._looking = False
        self._looked_s: dict[str | None, float] = {}
        """For each PATH, when node was last looked for there."""

    def add(self, loop: Loop, sockets: Collection[int], environment: Mapping[str, str] | None, tell: Callable[[str], None]) -> None:
        """Watch these sockets, by inode; ``tell`` is called with what was seen. ``environment``: where PATH is."""
        self._look_for_node(environment)
        if self._watch is None:
            return
        if not self._wanted:
            if self._closing is not None:
                self._closing.cancel()
                self._closing = None
            self._watch.forget_events()
            loop.add_reader(self._watch.fd, self._opened, loop)
        self._wanted |= dict.fromkeys(sockets, tell)

    def _look_for_node(self, environment: Mapping[str, str] | None) -> None:
        """Watch the node that a command would find; not for each of many that are started at once."""
        search, now_s = (os.environ if environment is None else environment).get("PATH"), time.monotonic()
        if now_s - self._looked_s.get(search, -LOOK_AGAIN_S) < LOOK_AGAIN_S:
            return
        self._looked_s[search] = now_s
        paths = [path for name in NODE if (path := find_program(name, environment, None))]
        if paths and self._watch is None:
            try:
                self._watch = ExecWatch()
            except OSError:  # fs.inotify.max_user_instances: nothing can be noticed then
                return
        for path in paths:
            assert self._watch is not None
            self._watch.add(path)

    def remove(self, loop: Loop, sockets: Collection[int]) -> None:
        """They are closed. Without any, nothing is watched, and after a while no fd is held that was not to be kept."""
        for inode in sockets:
            self._wanted.pop(inode, None)
        if not self._wanted and self._watch is not None:
            loop.remove_reader(self._watch.fd)
            if not self._keep and self._closing is None:
                self._closing = loop.call_later(LOOK_AGAIN_S, self.close_if_idle)

    def close_if_idle(self) -> None:
        """Hold no fd, unless a command is watched."""
        if not self._wanted:
            self.close()

    def close(self) -> None:
        """Hold no fd: no command runs any more."""
        if self._closing is not None:
            self._closing.cancel()
        self._closing = self._watch = None
        self._looked_s.clear()

    def _opened(self, loop: Loop) -> None:
        assert self._watch is not None
        self._watch.forget_events()
        if not self._looking:
            self._looking = True
            loop.call_later(AFTER_OPEN_S, self._look)

    def _look(self) -> None:
        self._looking = False
        if not self._wanted or self._watch is None:
            return
        for pid in runners(self._watch.paths):
            for inode in sockets_written_by(pid) & self._wanted.keys():
                self._wanted[inode](f"process {pid} runs node, which writes nothing to a datagram socket")


class Losses:
    """What is noticed of one command. ``tail`` is to be one of its outputs."""

    def __init__(self, loop: Loop, notice: NodeNotice, sockets: Collection[int]) -> None:
        self.tail: StderrTail = StderrTail()
        self.seen: str = ""
        """What was seen, in words; empty: nothing."""
        self._loop = loop
        self._notice = notice
        self._sockets = sockets

    def begin(self, environment: Mapping[str, str] | None) -> None:
        """The command is about to run, with this environment."""
        self._notice.add(self._loop, self._sockets, environment, self._saw)

    def _saw(self, what: str) -> None:
        self.seen = self.seen or what

    def end(self) -> None:
        """It has ended, and its outputs are closed."""
        self._notice.remove(self._loop, self._sockets)
        if self.tail.complains:
            self._saw("a write was too large for a datagram: the command says so itself")


class StderrTail:
    """An output that keeps the last of what was written to stderr, for the signs of a write that was too large."""

    name = "stderr tail"
    wants_stamps = False

    def __init__(self) -> None:
        self._tail = b""

    def open(self, flow: Flow) -> None:
        """It is never full."""

    def write(self, batch: Batch) -> None:
        if Stream.STDERR in batch.streams:
            chunks, _ = batch.chunks(Stream.STDERR)
            self._tail = b"".join([self._tail, *chunks])[-TAIL_BYTES:]

    def end(self, exit: Exit) -> None:
        """Nothing is held."""

    def close(self) -> int:
        return 0

    @property
    def complains(self) -> bool:
        """Whether the command says that a write was too large."""
        return any(text in self._tail for text in _TOO_LONG)
