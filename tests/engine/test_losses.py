"""The watch for node: one fd for all commands of a loop, which is not held for long when none runs, and never beyond the loop."""

import asyncio

import anyio
import pytest
import uvloop

import dtee_async
from dtee_async.engine import losses
from dtee_async.testing import open_fds

WATCH = "anon_inode:inotify"


@pytest.fixture
def node(tmp_path, monkeypatch):
    """There is a program of that name."""
    (tmp_path / "node").write_text("#!/bin/sh\n")
    (tmp_path / "node").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")


def watches():
    return [fd for fd, what in open_fds().items() if what == WATCH]


async def test_commands_one_after_the_other_share_one(node, monkeypatch):
    assert watches() == []
    await dtee_async.run("true")
    (fd,) = watches()
    async with dtee_async.open_job("true") as job:
        assert watches() == [fd]
        await job.wait()
    monkeypatch.setattr(losses, "LOOK_AGAIN_S", 0.01)
    await dtee_async.run("true")
    async with dtee_async.open_job("sleep 100"):
        await anyio.sleep(0.05)  # longer than it stays without a command
        assert watches() == [fd]
    while watches():
        await anyio.sleep(0.01)


@pytest.mark.parametrize("debug", [False, True])
def test_it_ends_with_the_loop(node, loop_name, debug):
    async def once():
        await dtee_async.run("true")
        assert len(watches()) == 1

    factory = uvloop.new_event_loop if loop_name == "uvloop" else None
    with asyncio.Runner(loop_factory=factory, debug=debug) as runner:
        runner.run(once())
        assert len(watches()) == 1
    assert watches() == []
