"""Owns the pytest plugin: the fixture ``captured_run``, which runs a command, and shows what it wrote if the test fails.

Such a test is:

    def test_it(captured_run):
        result = captured_run("make", check=True)
        assert b"warning" not in result.stderr
"""

from __future__ import annotations

from itertools import groupby
from typing import TYPE_CHECKING, Unpack

import pytest

if TYPE_CHECKING:
    from .api.specs import Command, RunOptions
    from .core.result import Result

SHOWN_LINES = 1000
"""So many of the last lines are shown."""

TITLE_LENGTH = 50

_MARKS = {1: "out", 2: "err"}


class CapturedRun:
    """What the fixture ``captured_run`` is: ``run_sync()``, whose results go into the report of the test. ``results`` has them all."""

    def __init__(self, item: pytest.Item) -> None:
        self.results: list[Result] = []
        self._item = item

    def __call__(self, command: Command, **options: Unpack[RunOptions]) -> Result:
        """Run a command, wait for it, and return its Result. See run() for the parameters. Raises as run_sync()."""
        from .api.jobs import run_sync
        from .api.loops import loop_runs
        from .errors import CommandFailedError, CommandTimeoutError

        if loop_runs():
            raise RuntimeError("captured_run is for a test that is not async; in this one: await dtee_async.run(...)")
        try:
            result = run_sync(command, **options)
        except (CommandFailedError, CommandTimeoutError) as error:
            self._show(error.result)
            raise
        self._show(result)
        return result

    def _show(self, result: Result) -> None:
        self.results.append(result)
        title = result.command.strip().splitlines()[0]
        self._item.add_report_section("call", f"output of {title[:TITLE_LENGTH]}", shown(result))


def shown(result: Result) -> str:
    """What was written, in order: each line with its stream, and at the end how it ended. A line of both streams is two."""
    lines = [
        f"{_MARKS[stream]}| {line.decode('utf-8', 'backslashreplace')}"
        for stream, writes in groupby(result.writes, lambda write: write.stream)
        for line in b"".join(write.data for write in writes).splitlines()
    ]
    if len(lines) > SHOWN_LINES:
        lines = [f"({len(lines) - SHOWN_LINES} lines before)", *lines[-SHOWN_LINES:]]
    if result.truncated:
        lines.append(f"({result.dropped_bytes} bytes were not kept)")
    if not result.exact:
        lines.append(f"(mode {result.mode}: the order across the streams is not exact)")
    return "\n".join([*lines, result.exit.describe(result.command)])


@pytest.fixture
def captured_run(request: pytest.FixtureRequest) -> CapturedRun:
    """Run a command in order: ``captured_run("make")`` is its Result, and what was written is shown if the test fails, with its streams.

    For a test that is not async; in one that is, use ``await dtee_async.run(...)``.
    """
    return CapturedRun(request.node)
