"""``run_pipeline()`` and ``open_pipeline()``: real pipes between real programs, and what each of them says."""

import asyncio
import hashlib
import random
import signal

import anyio
import pytest

import dtee_async
from dtee_async import CommandFailedError, CommandTimeoutError, ConfigError, JobSpec, State, Stream, open_pipeline, run_pipeline
from dtee_async.core.capture import CaptureSpec
from dtee_async.core.outputs import OutputFile
from dtee_async.process.group import members

DATA = random.Random(7).randbytes(3_000_000)


async def test_bytes_go_through_and_each_stderr_is_kept():
    result = await run_pipeline("echo one >&2; cat", ["cat"], "sha256sum; echo three >&2", stdin=DATA)
    assert result.stdout == hashlib.sha256(DATA).hexdigest().encode() + b"  -\n"
    assert [each.stderr for each in result.results] == [b"one\n", b"", b"three\n"]
    assert [each.stdout for each in result.results[:-1]] == [b"", b""]
    assert (result.returncode, [each.returncode for each in result.results]) == (0, [0, 0, 0])


async def test_the_writes_of_all_come_by_their_time_with_the_number_of_the_command():
    result = await run_pipeline("echo a >&2; echo x", "read line; echo b >&2; echo $line", "read line; echo c >&2; echo $line")
    assert [(number, write.stream.name, bytes(write.data)) for number, write in result.writes()] == [
        (0, "STDERR", b"a\n"),
        (1, "STDERR", b"b\n"),
        (2, "STDERR", b"c\n"),
        (2, "STDOUT", b"x\n"),
    ]


async def test_of_one_command_it_is_run():
    result = await run_pipeline("echo out; echo err >&2", limit_bytes=4)
    assert (result.results[0].combined, result.results[0].dropped_bytes) == (b"out\n", 4)


@pytest.mark.parametrize(
    ("commands", "returncode"),
    [
        (["exit 3", "cat"], 3),
        (["exit 3", "cat; exit 4", "cat"], 4),
        (["exit 3", "cat; exit 4", "cat; exit 5"], 5),
        ([["yes"], ["head", "-n1"]], -signal.SIGPIPE),
    ],
)
async def test_the_status_is_that_of_the_last_that_failed(commands, returncode):
    assert (await run_pipeline(*commands)).returncode == returncode
    with pytest.raises(CommandFailedError) as caught:
        await run_pipeline(*commands, check=True)
    assert (caught.value.result.returncode, caught.value.pipeline.returncode) == (returncode, returncode)


async def test_a_status_that_is_no_failure_is_none_for_check():
    result = await run_pipeline("exit 3", "cat", check=True, success_exit_codes=(0, 3))
    assert result.returncode == 3


async def test_whose_reader_has_gone_gets_sigpipe_and_a_slow_reader_holds_back_who_writes():
    result = await run_pipeline(["yes"], "head -c 1000000 >/dev/null; echo done")
    assert (result.stdout, result.results[0].signal) == (b"done\n", signal.SIGPIPE)


async def test_one_that_is_not_there_is_one_error_and_nothing_is_left(tmp_path):
    with pytest.raises(dtee_async.CommandNotFoundError, match="nonexistent-command"):
        await run_pipeline(f"echo $$ >{tmp_path}/pid; exec sleep 100", ["nonexistent-command"], "cat")
    if (tmp_path / "pid").exists():
        assert members(int((tmp_path / "pid").read_text())) == []


async def test_a_timeout_ends_all_and_has_what_was_written():
    with pytest.raises(CommandTimeoutError, match=r"^cat >&2; sleep 100 and sleep 100 & .* done: not done in 0\.3 s$") as caught:
        await run_pipeline(
            "echo a", "cat >&2; sleep 100", "sleep 100 & trap '' TERM; while :; do sleep 1; done", timeout_s=0.3, grace_s=0.1
        )
    first, second, third = caught.value.pipeline.results
    assert caught.value.result is second
    assert (first.returncode, second.stderr, second.signal, third.signal) == (0, b"a\n", signal.SIGTERM, signal.SIGKILL)


@pytest.mark.parametrize("way", ["anyio", "task"])
async def test_cancelling_ends_all(way):
    pids = []

    async def one():
        async with open_pipeline("echo x; exec sleep 100", "cat >&2; exec sleep 100") as pipeline:
            pids.extend(job.pid for job in pipeline.jobs)
            async for _ in pipeline.jobs[1].lines():
                started.set()
            await pipeline.wait()

    started = anyio.Event()
    if way == "anyio":
        async with anyio.create_task_group() as group:
            group.start_soon(one)
            await started.wait()
            group.cancel_scope.cancel()
    else:
        task = asyncio.create_task(one())
        await started.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
    assert [members(pid) for pid in pids] == [[], []]


async def test_each_is_a_running_job_and_stdin_is_that_of_the_first():
    async with open_pipeline(["cat"], "cat; echo end >&2", stdin="pipe", limit_bytes=100) as pipeline:
        first, last = pipeline.jobs
        lines = last.lines()
        await first.stdin.send(b"hello\n")
        assert (await anext(lines)).data == b"hello"
        assert [job.state for job in pipeline.jobs] == [State.RUNNING, State.RUNNING]
        await first.stdin.aclose()
        assert [(line.stream, line.data) async for line in lines] == [(Stream.STDERR, b"end")]
        result = await pipeline.wait()
        assert (result.returncode, result.stdout) == (0, b"hello\n")
        assert [job.state for job in pipeline.jobs] == [State.COMPLETED, State.COMPLETED]


async def test_terminate_ends_all_at_once_and_twice_is_no_more():
    async with open_pipeline("trap '' TERM; echo up >&2; while :; do sleep 1; done", "cat") as pipeline:
        assert (await anext(pipeline.jobs[0].lines())).data == b"up"
        result = await pipeline.terminate(0.1)
        assert (result.results[0].signal, result.returncode) == (signal.SIGKILL, -signal.SIGTERM)
        assert await pipeline.terminate() == result


async def test_an_error_of_the_block_is_raised_as_it_is():
    with pytest.raises(ZeroDivisionError):
        async with open_pipeline("sleep 100", "sleep 100") as pipeline:
            raise ZeroDivisionError
    assert [members(job.pid) for job in pipeline.jobs] == [[], []]


async def test_files_are_in_a_job_spec(tmp_path):
    spec = JobSpec("last", "cat; echo e >&2", outputs=(OutputFile(str(tmp_path / "log"), None, append=True),))
    await run_pipeline("echo a", spec)
    assert (tmp_path / "log").read_bytes() == b"a\ne\n"
    with pytest.raises(TypeError, match="unexpected out_append"):
        await run_pipeline("echo a", "cat", out_append="x")


async def test_every_mode(capture_mode):
    result = await run_pipeline("echo one >&2; cat", "cat; echo two >&2", stdin=b"x" * 100_000, capture=capture_mode)
    assert (result.stdout, [each.stderr for each in result.results]) == (b"x" * 100_000, [b"one\n", b"two\n"])


@pytest.mark.parametrize("turns", [0, 1, 2, 3, 5])
async def test_who_is_cancelled_twice_leaves_nobody(turns):
    pids = []

    async def one():
        async with open_pipeline("trap '' TERM; echo up >&2; while :; do sleep 1; done", ["sleep", "100"]) as pipeline:
            pids.extend(job.pid for job in pipeline.jobs)
            await anext(pipeline.jobs[0].lines())
            started.set()
            await pipeline.wait()

    started = asyncio.Event()
    task = asyncio.create_task(one())
    await started.wait()
    for _ in range(3):
        task.cancel()
        for _ in range(turns):
            await asyncio.sleep(0)
    with pytest.raises(asyncio.CancelledError):
        await task
    assert [members(pid) for pid in pids] == [[], []]


async def test_an_error_of_an_output_is_raised_by_each_wait_and_goes_with_the_block():
    spec = JobSpec("first", "echo err >&2", outputs=(OutputFile("/dev/full", Stream.STDERR, append=True),))
    with pytest.raises(dtee_async.OutputError, match="/dev/full"):
        async with open_pipeline(spec, ["sleep", "100"], grace_s=0.1) as pipeline:
            with anyio.move_on_after(0.3):
                await pipeline.wait()
    async with open_pipeline(spec, "cat") as pipeline:
        for _ in range(2):
            with pytest.raises(dtee_async.OutputError, match="/dev/full"):
                await pipeline.wait()


async def test_the_error_of_the_block_is_raised_also_when_it_is_cancelled_meanwhile():
    with anyio.CancelScope() as scope, pytest.raises(ZeroDivisionError):
        async with open_pipeline("trap '' TERM; while :; do sleep 1; done", ["sleep", "100"], grace_s=0.3):
            asyncio.get_running_loop().call_later(0.05, scope.cancel)
            raise ZeroDivisionError


async def test_what_can_be_no_pipeline():
    with pytest.raises(ConfigError, match="only the last command of a pipeline can have a terminal"):
        await run_pipeline("cat", "cat", capture="pty")
    with pytest.raises(ConfigError, match="the stdout of a command goes to the next one"):
        await run_pipeline(JobSpec("a", "true", outputs=(OutputFile("x", Stream.STDOUT, append=True),)), "cat")
    with pytest.raises(ConfigError, match=r"use open_pipeline\(\)"):
        await run_pipeline("cat", "cat", stdin="pipe")
    with pytest.raises(ConfigError, match="a pipeline needs a command"):
        await run_pipeline()
    with pytest.raises(ConfigError, match="only the first command of a pipeline can have a terminal as its stdin"):
        await run_pipeline("true", JobSpec("b", "cat", capture=CaptureSpec("pty", interactive=True)))


async def test_an_iterator_that_is_kept_and_not_read_does_not_hold_back_who_waits():
    async with open_pipeline("echo ready", "cat; head -c 4000000 /dev/zero") as pipeline:
        kept = pipeline.jobs[-1].lines()
        assert (await anext(kept)).data == b"ready"
        assert (await pipeline.wait()).returncode == 0
