"""Owns the opening of the files of a command line: all of them, before any is truncated."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, NamedTuple

from ..core.outputs import OUTPUT_KEYS, OutputKey
from ..errors import OutputError
from ..output.file import append_where_shared, open_file, truncate_file

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence


class OpenedFile(NamedTuple):
    """A file that was opened for an output option."""

    fd: int
    key: OutputKey
    path: str


def open_files(
    files: Sequence[tuple[str, str]], complain: Callable[[OSError], None], *, all_or_none: bool
) -> tuple[list[OpenedFile], bool]:
    """Open the files, each given as (output key, path); and whether all could be.

    Every failure is told to ``complain``. ``all_or_none``: after one, none is open, and none was truncated.
    """
    opened: list[OpenedFile] = []
    for name, path in files:
        key = OUTPUT_KEYS[name]
        try:
            opened.append(OpenedFile(open_file(path, append=key.append), key, path))
        except OutputError as error:
            complain(error)
    if len(opened) > 1:
        append_where_shared((fd, key.stream, key.append) for fd, key, _ in opened)
    complete = len(opened) == len(files)
    if complete or not all_or_none:
        for file in opened:
            complete = _truncate(file, complain) and complete
    if not complete and all_or_none:
        for file in opened:
            os.close(file.fd)
        opened = []
    return opened, complete


def _truncate(file: OpenedFile, complain: Callable[[OSError], None]) -> bool:
    if not file.key.append:
        try:
            truncate_file(file.fd, file.path)
        except OutputError as error:
            complain(error)
            return False
    return True
