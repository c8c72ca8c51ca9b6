"""Owns the choice of a capture mode, and what all captures of one loop share.

``auto`` is ``ordered``, except where it can be known beforehand that output would be lost there;
then it is ``turnstile`` if that takes nothing away from the command, else ``pipe``. On a system
whose datagram sockets are not reliable it is ``pipe``.
"""

from __future__ import annotations

from errno import ENOSYS
from typing import TYPE_CHECKING, NamedTuple

from ..core.capture import WATCH_FDS, CaptureSpec
from ..core.platforms import HERE, default_mode, has
from ..errors import CaptureError, SpawnError
from ..process.programs import why_lossy
from ..transport.buffer import receive_buffer

if TYPE_CHECKING:
    from ..core.contracts import Loop, Transport
    from ..process.guardian import Guardian
    from ..process.spawn import SpawnPlan
    from ..transport.buffer import Buffer
    from .losses import Losses, NodeNotice

FEW = 8
"""So many captures at once get large pipes: those of a user beyond fs.pipe-user-pages-soft make every new one of that user tiny."""


class Capturing(NamedTuple):
    """A transport, and why it is this one. ``fell_back``: it is not the mode that was asked for."""

    transport: Transport
    reason: str = ""
    fell_back: bool = False


class Captures:
    """Makes the transports of a loop: they share a receive buffer and a guardian."""

    def __init__(self, *, keep: bool = False) -> None:
        """``keep``: what they share, once there, until close(): for who runs one command after the other."""
        self.buffer: Buffer = receive_buffer()
        self._keep = keep
        self._guardian: Guardian | None = None
        self._notice: NodeNotice | None = None
        self._large: list[Transport] = []

    @property
    def guardian(self) -> Guardian:
        """The process that takes over when we are gone; it is not started before it is needed."""
        if self._guardian is None:
            from ..process.guardian import Guardian

            self._guardian = Guardian(keep=self._keep)
        return self._guardian

    def losses(self, loop: Loop, transport: Transport) -> Losses | None:
        """What notices that output is lost while a command runs; None where nothing can be."""
        from ..transport.datagram import DatagramTransport

        if not isinstance(transport, DatagramTransport) or not (has("inotify") and has("proc")):
            return None
        from .losses import Losses, NodeNotice

        self._notice = self._notice or NodeNotice(keep=self._keep)
        return Losses(loop, self._notice, transport.sockets())

    def close(self) -> None:
        """Let go what they share. All commands have ended."""
        if self._notice is not None:
            self._notice.close()
        if self._guardian is not None:
            self._guardian.close()

    def let_go_idle(self) -> None:
        """Let go what no command uses."""
        if self._notice is not None:
            self._notice.close_if_idle()
        if self._guardian is not None:
            self._guardian.let_go_if_idle()

    def open(self, spec: CaptureSpec, plan: SpawnPlan, *, stamped: bool = False) -> Capturing:
        """The transport for a command. Raises CaptureError."""
        match spec.mode:
            case "ordered":
                return Capturing(self._ordered(stamped=stamped))
            case "pipe":
                return Capturing(self._pipe())
            case "pty":
                return Capturing(self._pty(spec))
            case "turnstile":
                return self._turnstile_or_pipe(spec._replace(no_new_privs=True), stamped=stamped)
        lossy = why_lossy(plan.argv, plan.environment, plan.working_dir)
        if lossy is None and default_mode(HERE) == "ordered":
            return Capturing(self._ordered(stamped=stamped))
        if lossy is None:
            return Capturing(self._pipe(), "the datagram sockets of this system are not reliable")
        capturing = self._turnstile_or_pipe(spec, stamped=stamped)
        reason = f"{lossy}; {capturing.reason}" if capturing.reason else lossy
        return Capturing(capturing.transport, reason)

    def _turnstile_or_pipe(self, spec: CaptureSpec, *, stamped: bool) -> Capturing:
        try:
            return Capturing(self._turnstile(spec, stamped=stamped))
        except (CaptureError, SpawnError) as error:
            return Capturing(self._pipe(), f"no turnstile: {error.strerror}", fell_back=True)

    def _ordered(self, *, stamped: bool) -> Transport:
        from ..transport.datagram import DatagramTransport

        return DatagramTransport(self.buffer, stamped=stamped)

    def _pipe(self) -> Transport:
        from ..transport.pipe import PipeTransport

        return self._counted(PipeTransport(self.buffer, pipe_bytes=self._pipe_bytes()))

    def _pty(self, spec: CaptureSpec) -> Transport:
        from ..transport.pty import PtyTransport
        from .keyboard import window_size

        return PtyTransport(self.buffer, stderr_apart=spec.stderr_apart, interactive=spec.interactive, size=window_size())

    def _turnstile(self, spec: CaptureSpec, *, stamped: bool) -> Transport:
        if not has("seccomp"):
            raise CaptureError(ENOSYS, "this system has no seccomp")
        from ..transport.turnstile import TurnstileTransport

        return self._counted(
            TurnstileTransport(
                self.buffer,
                self.guardian.watch,
                stamped=stamped,
                watch_fds=WATCH_FDS[spec.watch_fds],
                no_new_privs=spec.no_new_privs,
                pipe_bytes=self._pipe_bytes(),
            )
        )

    def _pipe_bytes(self) -> int:
        from ..transport.pipe import LARGE_PIPE_BYTES

        self._large = [transport for transport in self._large if transport.fds]
        return LARGE_PIPE_BYTES if len(self._large) < FEW else 0

    def _counted(self, transport: Transport) -> Transport:
        if len(self._large) < FEW:
            self._large.append(transport)
        return transport
