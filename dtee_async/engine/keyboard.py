"""Owns the way from our own terminal to a command's: what is typed here is typed there.

Ours becomes raw, so that every key reaches the command: Ctrl-C is a byte for us, and it is the
command's terminal that makes a signal of it. Our stdin is shared with other programs, so it is
never made non-blocking: it is read when it is readable. Bytes that the command's terminal does not
take are held, and until it takes them no more are read.
"""

from __future__ import annotations

import contextlib
import os
import select
import termios
from errno import EINTR
from typing import TYPE_CHECKING, Any, Self

if TYPE_CHECKING:
    from ..core.contracts import Loop

HELD_BYTES = 4096

_INPUT, _OUTPUT, _CONTROL, _LOCAL, _CHARACTERS = 0, 1, 2, 3, 6
_DISABLED = b"\0"  # _POSIX_VDISABLE
_LINE_ENDS = b"\n", b"\r"  # what a file has, and what the Enter key of a raw terminal sends


def window_size(*fds: int) -> tuple[int, int] | None:
    """Rows and columns of the first of these that is a terminal and knows (none given: our stdin, stdout, stderr); None if none does."""
    for fd in fds or (0, 1, 2):
        with contextlib.suppress(OSError):
            columns, rows = os.get_terminal_size(fd)
            if rows and columns:
                return rows, columns
    return None


class Keyboard:
    """Types on a command's terminal what is typed on ours; a context manager, or ``start()`` and ``close()``.

    Made before the command starts, which then finds the settings of our terminal on its own:
    which key erases, which interrupts. ``full_screen``: the command has our screen for itself, and
    what its terminal shows is shown as it is; else ours goes on to mend the ends of lines, for others that write to it.
    """

    def __init__(self, loop: Loop, terminal_fd: int, *, full_screen: bool, source: int = 0) -> None:
        self._loop = loop
        self._source = source
        self._full_screen = full_screen
        self._saved: list[Any] | None = None
        self._held = b""
        self._line_is_open = False
        self._ended = False
        self._reading = False
        self._writing = False
        # Ours, until close(): the transport closes its own when the command ends, while the loop still polls this one.
        self._terminal = os.dup(terminal_fd)
        self._epoll: select.epoll | None = None
        self._polled = source
        self._always_readable = False
        try:
            self._look_at_source()
        except BaseException:
            self.close()
            raise

    def _look_at_source(self) -> None:
        if os.isatty(self._source):
            self._saved = termios.tcgetattr(self._source)
            _set(self._terminal, self._saved)
        if hasattr(select, "epoll"):  # polled in place of stdin: uvloop makes non-blocking what it polls
            self._epoll = select.epoll()
            self._polled = self._epoll.fileno()
        try:
            if self._epoll is None:
                os.fstat(self._source)
            else:
                self._epoll.register(self._source, select.EPOLLIN)
        except PermissionError:  # a file, or /dev/null: epoll_ctl(2)
            self._always_readable = True
        except OSError:  # stdin is closed
            self._end()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def start(self) -> None:
        """Begin, after the command has been started; to be ended by ``close()`` whatever happens."""
        try:
            self.make_raw()
            self._listen()
        except BaseException:
            self.close()
            raise

    def make_raw(self) -> None:
        """Our terminal hands on every byte. To be done again after a SIGCONT: a shell takes its terminal back from who is stopped."""
        if self._saved is not None:
            _set(self._source, _raw(self._saved, keep_opost=not self._full_screen))

    def close(self) -> None:
        """Our terminal is what it was before; may be called twice."""
        self.restore()
        if self._terminal < 0:
            return
        try:
            self._stop()
        finally:
            os.close(self._terminal)
            self._terminal = -1
            if self._epoll is not None:
                self._epoll.close()

    def restore(self) -> None:
        """Our terminal is what it was before, and stays so."""
        saved, self._saved = self._saved, None
        if saved is not None:
            with contextlib.suppress(termios.error):  # EIO: it has hung up
                _set(self._source, saved)

    def _listen(self) -> None:
        """Wait for what can go on: typing what is held, or else reading more."""
        idle = not self._held and not self._ended
        self._poll(reading=idle and not self._always_readable, writing=bool(self._held) or (idle and self._always_readable))

    def _poll(self, *, reading: bool, writing: bool) -> None:
        if reading is not self._reading:
            self._reading = reading
            if reading:
                self._loop.add_reader(self._polled, self._read)
            else:
                self._loop.remove_reader(self._polled)
        if writing is not self._writing:
            self._writing = writing
            if writing:
                self._loop.add_writer(self._terminal, self._writable)
            else:
                self._loop.remove_writer(self._terminal)

    def _writable(self) -> None:
        if self._held:
            self._type()
        else:
            self._read()

    def _read(self) -> None:
        try:
            data = os.read(self._source, HELD_BYTES)
        except BlockingIOError:  # somebody else made it non-blocking, and read what was there
            return
        except OSError:  # EIO: our terminal is somebody else's, and nobody is left who could give it back to us
            data = b""
        if data:
            self._held = data
            self._line_is_open = not data.endswith(_LINE_ENDS)
        else:
            self._end()
        self._type()

    def _end(self) -> None:
        """Our input is at its end: type Ctrl-D, or what the terminal has instead; it ends a line that is open first, as for a person."""
        self._ended = True
        key = termios.tcgetattr(self._terminal)[_CHARACTERS][termios.VEOF]
        if key != _DISABLED:
            self._held += key * (1 + self._line_is_open)

    def _type(self) -> None:
        try:
            self._held = self._held[os.write(self._terminal, self._held) :]
        except BlockingIOError:
            pass
        except OSError:  # EIO: nobody has the terminal open any more
            self._ended, self._held = True, b""
        self._listen()

    def _stop(self) -> None:
        self._ended, self._held = True, b""
        self._listen()


def _set(fd: int, settings: list[Any]) -> None:
    """tcsetattr(3), once more after a signal: Python does not do that by itself (PEP 475 has no termios).

    In the background it stops us by SIGTTOU, and the SIGCONT of a shell's ``fg`` is one that we catch.
    """
    while True:
        try:
            termios.tcsetattr(fd, termios.TCSANOW, settings)
        except termios.error as error:
            if error.args[0] != EINTR:
                raise
        else:
            return


def _raw(attributes: list[Any], *, keep_opost: bool) -> list[Any]:
    """These settings as cfmakeraw(3) has them."""
    raw = attributes[:]
    raw[_INPUT] &= ~(
        termios.IGNBRK | termios.BRKINT | termios.PARMRK | termios.ISTRIP | termios.INLCR | termios.IGNCR | termios.ICRNL | termios.IXON
    )
    if not keep_opost:
        raw[_OUTPUT] &= ~termios.OPOST
    raw[_CONTROL] = raw[_CONTROL] & ~(termios.CSIZE | termios.PARENB) | termios.CS8
    raw[_LOCAL] &= ~(termios.ECHO | termios.ECHONL | termios.ICANON | termios.ISIG | termios.IEXTEN)
    raw[_CHARACTERS] = [*attributes[_CHARACTERS]]
    raw[_CHARACTERS][termios.VMIN], raw[_CHARACTERS][termios.VTIME] = 1, 0
    return raw
