"""Owns what the captures of one loop share in a host application: it comes with the first of them, and goes with the loop."""

from __future__ import annotations

import asyncio

from anyio.lowlevel import RunVar

from ..engine.captures import Captures
from ..errors import LoopError

_captures: RunVar[Captures] = RunVar("dtee_async_captures")


def running_loop() -> asyncio.AbstractEventLoop:
    """Raises LoopError where none runs, or trio's."""
    try:
        return asyncio.get_running_loop()
    except RuntimeError as error:
        raise LoopError(
            "dtee_async needs a running asyncio event loop (asyncio's own or uvloop's); none runs in this thread, trio's is none"
        ) from error


def captures_of_loop() -> Captures:
    """What all captures of this loop share, gone with the loop."""
    try:
        return _captures.get()
    except LookupError:
        captures = Captures()
        _captures.set(captures)
        return captures
