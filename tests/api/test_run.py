"""``await dtee_async.run(...)`` as an author of an async application uses it."""

import asyncio
import os
import signal
import subprocess
import sys
import threading
import time

import anyio
import pytest

import dtee_async
from dtee_async import Stream
from dtee_async.process.group import members


async def test_the_result_has_both_streams_apart_and_in_order():
    result = await dtee_async.run("echo a; echo b >&2; echo c; exit 3")
    assert result.returncode == 3
    assert result.signal is None
    assert (result.combined, result.stdout, result.stderr) == (b"a\nb\nc\n", b"a\nc\n", b"b\n")
    assert [(write.stream, bytes(write.data)) for write in result.writes] == [
        (Stream.STDOUT, b"a\n"),
        (Stream.STDERR, b"b\n"),
        (Stream.STDOUT, b"c\n"),
    ]
    assert result.exact
    assert not result.writers_left
    assert result.max_rss > 0
    assert result.cpu >= 0
    assert 0 < result.duration_s < 10
    assert result.started.timestamp() <= result.writes[0].time_ns / 1e9 <= time.time()
    assert len({write.pid for write in result.writes}) == 1


async def test_all_six_kinds_of_files(tmp_path):
    (tmp_path / "append").write_text("old\n")
    (tmp_path / "overwrite").write_text("old\n")
    await dtee_async.run(
        "echo a; echo b >&2",
        out_append=tmp_path / "append",
        out_overwrite=[str(tmp_path / "overwrite")],
        err_append=[tmp_path / "err1", tmp_path / "err2"],
        err_overwrite=tmp_path / "err3",
        combined_append=tmp_path / "both1",
        combined_overwrite=tmp_path / "both2",
    )
    contents = {path.name: path.read_text() for path in tmp_path.iterdir()}
    assert contents == {
        "append": "old\na\n",
        "overwrite": "a\n",
        "err1": "b\n",
        "err2": "b\n",
        "err3": "b\n",
        "both1": "a\nb\n",
        "both2": "a\nb\n",
    }


async def test_it_runs_inside_a_task_group_many_at_once(random_writes, programs):
    expected = {seed: random_writes(seed, 200, 20_000) for seed in range(10)}
    results = {}

    async def one(seed):
        results[seed] = await dtee_async.run([programs / "random_writer", str(seed), "200", "20000"])

    async with anyio.create_task_group() as group:
        for seed in expected:
            group.start_soon(one, seed)
    assert {seed: (result.combined, result.stdout, result.stderr) for seed, result in results.items()} == expected


async def test_the_environment_is_added_to_ours_and_stdin_is_empty(tmp_path, monkeypatch):
    monkeypatch.setenv("OURS", "1")
    result = await dtee_async.run("echo $OURS $THEIRS; pwd; cat", environment={"THEIRS": "2"}, working_dir=tmp_path)
    assert result.stdout == b"1 2\n" + os.fsencode(tmp_path) + b"\n"


async def test_check_raises_an_error_that_carries_the_result():
    with pytest.raises(dtee_async.CommandFailedError, match="exited with status 2\nlast words") as caught:
        await dtee_async.run("echo out; echo last words >&2; exit 2", check=True)
    assert caught.value.result.stdout == b"out\n"
    assert (await dtee_async.run("true", check=True)).returncode == 0


async def test_a_death_by_signal_is_in_the_result():
    result = await dtee_async.run("kill -TERM $$")
    assert (result.returncode, result.signal) == (-signal.SIGTERM, signal.SIGTERM)


@pytest.mark.parametrize(
    ("command", "options", "error"),
    [
        (["nonexistent-command"], {}, FileNotFoundError),
        (["nonexistent-command"], {}, dtee_async.CommandNotFoundError),
        ("true", {"out_append": "/nonexistent/file"}, dtee_async.OutputError),
        ("true", {"working_dir": "/nonexistent"}, dtee_async.SpawnError),
        ([], {}, dtee_async.ConfigError),
        ("", {}, dtee_async.ConfigError),
    ],
)
async def test_what_cannot_be_run_is_one_clear_error(command, options, error):
    with pytest.raises(error):
        await dtee_async.run(command, **options)


async def test_a_file_that_cannot_be_written_is_an_error_and_not_silence():
    with pytest.raises(dtee_async.OutputError, match="No space left on device: '/dev/full'"):
        await dtee_async.run("echo x", out_append="/dev/full")


@pytest.mark.parametrize("way", ["anyio", "task"])
async def test_cancelling_ends_the_group_and_the_files_have_what_was_captured(way, tmp_path):
    log, fifo = tmp_path / "log", tmp_path / "fifo"
    os.mkfifo(fifo)
    reader = os.open(fifo, os.O_RDONLY | os.O_NONBLOCK)
    command = f"echo one; echo two >&2; sleep 100 & echo $$ >{fifo}; wait"

    async def one():
        await dtee_async.run(command, combined_append=log)

    async def its_pid():
        await anyio.wait_readable(reader)
        return int(os.read(reader, 100))

    if way == "anyio":
        async with anyio.create_task_group() as group:
            group.start_soon(one)
            pid = await its_pid()
            group.cancel_scope.cancel()
    else:
        task = asyncio.create_task(one())
        pid = await its_pid()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
    os.close(reader)
    assert members(pid) == []
    assert log.read_text() == "one\ntwo\n"


async def test_a_timeout_kills_what_ignores_term():
    with pytest.raises(TimeoutError):
        with anyio.fail_after(0.3):
            await dtee_async.run("trap '' TERM; while :; do sleep 1; done", grace_s=0.1)


def test_two_loops_in_two_threads_do_not_know_of_each_other(random_writes, programs):
    expected = [random_writes(seed, 500, 10_000)[0] for seed in (1, 2)]
    got = [b"", b""]

    def work(index):
        result = asyncio.run(dtee_async.run([programs / "random_writer", str(index + 1), "500", "10000"]))
        got[index] = result.combined

    threads = [threading.Thread(target=work, args=(index,)) for index in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert got == expected


def test_without_a_loop_it_says_what_it_needs():
    with pytest.raises(dtee_async.LoopError, match=r"needs a running asyncio event loop .* trio"):
        dtee_async.run("true").send(None)


def test_it_reaps_no_child_of_the_host_and_installs_no_handler():
    code = """if True:
    import asyncio, os, signal, subprocess, dtee_async
    theirs = subprocess.Popen(["true"])
    handlers = {number: signal.getsignal(number) for number in signal.valid_signals()}
    async def main():
        await dtee_async.run("true")
    asyncio.run(main())
    assert handlers == {number: signal.getsignal(number) for number in signal.valid_signals()}
    assert os.waitpid(theirs.pid, 0)[1] == 0
    """
    subprocess.run([sys.executable, "-c", code], check=True)
