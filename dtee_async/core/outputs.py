"""Owns the output keys: the six words for where a stream is copied to, and what each means."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

from .write import Stream


class OutputKey(NamedTuple):
    """What one of the six output keys means."""

    stream: Stream | None
    append: bool


OUTPUT_KEYS: Mapping[str, OutputKey] = {
    "out_append": OutputKey(Stream.STDOUT, append=True),
    "out_overwrite": OutputKey(Stream.STDOUT, append=False),
    "err_append": OutputKey(Stream.STDERR, append=True),
    "err_overwrite": OutputKey(Stream.STDERR, append=False),
    "combined_append": OutputKey(None, append=True),
    "combined_overwrite": OutputKey(None, append=False),
}
"""The six output keys, the same words everywhere: options, jobs.toml, Python."""


class OutputFile(NamedTuple):
    """A file that a stream (None: both, in order) is written to."""

    path: str
    stream: Stream | None
    append: bool


def output_files(keys: Mapping[str, str | Sequence[str]]) -> Iterator[OutputFile]:
    """The files behind output keys (``{"out_append": "a.log", ...}``), in the order given."""
    for key, value in keys.items():
        stream, append = OUTPUT_KEYS[key]
        for path in [value] if isinstance(value, str) else value:
            yield OutputFile(path, stream, append)
