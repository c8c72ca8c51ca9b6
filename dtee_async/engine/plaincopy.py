"""Owns the copying of one source to many sinks where there is no tee(2): read once, write to each, blocking."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from ..output.fdwrite import write_all

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

COPY_BYTES = 128 * 1024


def copy_plainly(source: int, sinks: Sequence[int], on_lost: Callable[[int, OSError], bool]) -> OSError | None:
    """Copy until the source ends, or no sink is left; why the source could not be read, or None.

    A sink that fails is left out and told to ``on_lost`` by its index, which says whether to go on. All fds stay open.
    """
    alive = dict(enumerate(sinks))
    while alive:
        try:
            data = os.read(source, COPY_BYTES)
        except OSError as error:
            return error
        if not data:
            return None
        for index, fd in list(alive.items()):
            try:
                write_all(fd, [data], len(data))
            except OSError as error:
                del alive[index]
                if not on_lost(index, error):
                    return None
    return None
