r"""Owns the job without a process, which plays a script: for tests of code that is given a RunningJob.

Such a test is:

    async with FakeJob([(Stream.STDOUT, b"one\n"), (Stream.STDERR, b"oops\n", 0.1)], returncode=3) as job:
        await code_of_yours(job)
    assert job.stdin.data == b"what it was sent"
"""

from __future__ import annotations

import signal
import time
from collections import deque
from collections.abc import Collection, Iterable, Sequence
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, Literal

import anyio

from ..api.jobs import RunningJob
from ..api.loops import running_loop
from ..api.specs import Command, make_spec
from ..api.stdin import StdinPipe
from ..core.batch import Batch
from ..core.exit import Exit
from ..core.policy import SHUTDOWN
from ..core.write import Stream
from ..engine.command import Outcome
from ..engine.protocol import Capture
from ..output.consumers import Consumers
from ..output.memory import BoundedMemory

if TYPE_CHECKING:
    from types import TracebackType
    from typing import Self

    from ..core.contracts import Output

Step = tuple[Stream, bytes] | tuple[Stream, bytes, float]
"""A write, and how many seconds after the one before it is made."""

FAKE_PID = (1 << 22) + 1
"""Larger than any that Linux gives (PID_MAX_LIMIT, proc(5)): a signal to it reaches nobody."""

_IGNORED = frozenset({0, signal.SIGCHLD, signal.SIGCONT, signal.SIGURG, signal.SIGWINCH})
"""What ends no process that has not asked for it (signal(7))."""


class FakeStdin(StdinPipe):
    """The stdin of a FakeJob: ``data`` has what was sent, ``closed`` says whether that was all."""

    def __init__(self) -> None:
        self.data: bytearray = bytearray()
        self.closed: bool = False

    async def send(self, data: bytes) -> None:
        """Keep it. Raises ClosedResourceError after close()."""
        if self.closed:
            raise anyio.ClosedResourceError
        self.data += data
        await anyio.lowlevel.checkpoint()

    def close_child_fd(self) -> None:
        """There is none."""

    def close(self) -> None:
        """The job reads the end of its input. May be called twice."""
        self.closed = True


class FakeJob(RunningJob):
    """A RunningJob that plays a script: each write to its stream, after its delay, and then the end with ``returncode``.

    All of RunningJob's interface works on it. Nobody holds the script back: what nobody takes yet waits, as in
    a queue that is never full. ``stdin`` keeps what it is sent, and ``signals`` what it was sent: each
    but the harmless ones (signal(7)) and the ``ignored_signals`` ends it, with -N; KILL always. ``limit_bytes`` and
    ``keep`` are those of open_job(). Leaving its block ends it, as open_job() does.
    """

    def __init__(
        self,
        script: Iterable[Step],
        returncode: int = 0,
        *,
        command: Command = "fake",
        ignored_signals: Collection[int] = (),
        limit_bytes: int = 0,
        keep: Literal["head", "tail"] = "tail",
    ) -> None:
        """Start it. ``command`` is for its result. Raises LoopError where no loop runs, ConfigError."""
        self._life = _Life(tuple(script), Exit(returncode), _IGNORED | set(ignored_signals))
        memory = BoundedMemory(limit_bytes, keep) if limit_bytes else None
        super().__init__(make_spec(command, {}), None, [Consumers()], memory)
        self._stdin = FakeStdin()

    def _make_job(self, loop: Any, outputs: Sequence[Output], surroundings: object) -> Any:
        self._life.open(loop, [*outputs, *([self._memory] if self._memory is not None else ())])
        return self._life

    @property
    def stdin(self) -> FakeStdin:
        """What it is sent."""
        assert isinstance(self._stdin, FakeStdin)
        return self._stdin

    @property
    def signals(self) -> list[int]:
        """The numbers of the signals that it was sent."""
        return self._life.signals

    def send_signal(self, number: int) -> None:
        """As if a signal was sent to it, if it has not ended."""
        self._life.signal(number)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        await self.terminate(0)


class _Life:
    """What stands in the place of a command that runs, with as much of the interface of supervisor.job.Job as RunningJob uses."""

    pid = FAKE_PID
    capturing = SimpleNamespace(transport=SimpleNamespace(mode="ordered", exact=True), reason="")
    lossless = True
    loss = ""

    def __init__(self, script: Sequence[Step], exit: Exit, ignored: Collection[int]) -> None:
        self.signals: list[int] = []
        self._script = script
        self._exit = exit
        self._ignored = ignored
        self._has_exited = False
        self._playing = anyio.CancelScope()
        self._queue: deque[Batch] = deque()
        self._room = anyio.Event()
        self._done = anyio.Event()
        self.outcome: Outcome | None = None

    def open(self, loop: Any, outputs: Sequence[Output]) -> None:
        self._capture = Capture(loop, outputs, _no_report)

    def start(self) -> None:
        self._capture.on_room = self._deliver
        self._capture.open()
        self._began_s = time.monotonic()
        self._task = running_loop().create_task(self._live())

    async def _live(self) -> None:
        with self._playing:
            writes: list[tuple[Stream, bytes]] = []
            await anyio.lowlevel.checkpoint()
            for stream, data, *delay_s in self._script:
                if delay_s:
                    self._write(writes)
                    writes = []
                    await anyio.sleep(*delay_s)
                writes.append((stream, data))
            self._write(writes)
        self._has_exited = True
        self._duration_s = time.monotonic() - self._began_s
        while self._capture.blocked:
            self._room = anyio.Event()
            await self._room.wait()
        for flow in self._capture.flows:
            flow.output.end(self._exit)
        for flow in self._capture.flows:
            flow.output.close()
        self.outcome = Outcome(self._exit, self._duration_s, writers_left=False, dropped=(), error=None)
        self._done.set()

    def _write(self, writes: Sequence[tuple[Stream, bytes]]) -> None:
        """All at once: that is how writes arrive that were made at once, and who leaves his iterator meanwhile has missed the rest."""
        if not writes:
            return
        count = len(writes)
        stamps = [time.time_ns()] * count, [self.pid] * count
        streams = bytes(stream for stream, _ in writes)
        self._queue.append(Batch([data for _, data in writes], [len(data) for _, data in writes], streams, lambda: stamps))
        self._deliver()

    def _deliver(self) -> None:
        while self._queue and not self._capture.blocked:
            self._capture.datagrams_received(self._queue.popleft())
        self._room.set()

    def signal(self, number: int) -> None:
        if self._done.is_set():
            return
        self.signals.append(number)
        if self._has_exited or (number != signal.SIGKILL and number in self._ignored):
            return
        self._has_exited = True
        self._exit = Exit(-number)
        self._playing.cancel()

    async def wait(self) -> Outcome:
        await self._done.wait()
        assert self.outcome is not None
        return self.outcome

    async def stop(self, grace_s: float | None = None) -> list[object]:
        self.signal(signal.SIGTERM)
        if not self._has_exited:
            with anyio.move_on_after(SHUTDOWN.timeout_seconds if grace_s is None else grace_s):
                await self._done.wait()
        self.kill()
        await self._done.wait()
        return []

    def kill(self) -> None:
        if not self._has_exited:
            self.signal(signal.SIGKILL)


def _no_report(output: Output, error: OSError) -> None:
    """These outputs do not fail."""
