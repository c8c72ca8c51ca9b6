"""``async with dtee_async.open_job(...) as job`` as an author of an async application uses it."""

import asyncio
import importlib.util
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import anyio
import pytest

import dtee_async
from dtee_async import JobSpec, State, Stream, open_job
from dtee_async.core.outputs import OutputFile
from dtee_async.process.group import members

MUCH = "dd if=/dev/zero bs=65536 count=128 status=none"
MUCH_BYTES = 128 * 65536
"""Eight times what a consumer holds."""


SOAK = importlib.util.spec_from_file_location("test_cancellations", Path(__file__).parents[1] / "soak" / "test_cancellations.py")
cancellations = importlib.util.module_from_spec(SOAK)
SOAK.loader.exec_module(cancellations)


class Failure(Exception):
    pass


def joined(writes, stream=None):
    return b"".join(write.data for write in writes if stream in (None, write.stream))


async def test_iteration_has_every_write_in_order(random_writes, programs):
    both, out, err = random_writes(5, 400, 20_000)
    async with open_job([programs / "random_writer", "5", "400", "20000"]) as job:
        writes = [write async for write in job]
        result = await job.wait()
    assert (joined(writes), joined(writes, Stream.STDOUT), joined(writes, Stream.STDERR)) == (both, out, err)
    assert [write.time_ns for write in writes] == sorted(write.time_ns for write in writes)
    assert {write.pid for write in writes} == {job.pid}
    assert all(type(write.data) is bytes for write in writes)
    assert (result.returncode, len(result.writes), result.truncated) == (0, 0, False)


async def test_iteration_in_every_mode(capture_mode, random_writes, programs):
    _, out, err = random_writes(6, 200, 20_000)
    async with open_job([programs / "random_writer", "6", "200", "20000"], capture=capture_mode) as job:
        writes = [write async for write in job]
    assert (joined(writes, Stream.STDOUT), joined(writes, Stream.STDERR)) == (out, err)


async def test_lines_of_both_streams():
    async with open_job("echo a; echo b >&2; printf 'c\nd'") as job:
        lines = [line async for line in job.lines()]
    assert [(line.stream, line.text, line.complete) for line in lines] == [
        (Stream.STDOUT, "a", True),
        (Stream.STDERR, "b", True),
        (Stream.STDOUT, "c", True),
        (Stream.STDOUT, "d", False),
    ]
    assert time.time() - 60 < lines[0].time_ns / 1e9 <= lines[1].time_ns / 1e9 <= time.time()


async def test_several_consumers_at_once_have_everything(random_writes, programs):
    both, out, _ = random_writes(7, 400, 20_000)
    got = {}

    async def writes(name):
        got[name] = joined([write async for write in job])

    async def lines():
        got["lines"] = [line async for line in job.lines() if line.stream is Stream.STDOUT]

    async with open_job([programs / "random_writer", "7", "400", "20000"]) as job, anyio.create_task_group() as group:
        for each in (writes(1), writes(2), lines()):
            group.start_soon(lambda coroutine: coroutine, each)
    assert (got[1], got[2]) == (both, both)
    assert b"\n".join(line.data for line in got["lines"] if line.complete) == out.rpartition(b"\n")[0]


async def test_several_tasks_share_one_iterator():
    got = []

    async def work(lines):
        async for line in lines:
            got.append(int(line.data))
            await anyio.lowlevel.checkpoint()

    async with open_job("seq 2000") as job, anyio.create_task_group() as group:
        lines = job.lines()
        for _ in range(3):
            group.start_soon(work, lines)
    assert sorted(got) == [*range(1, 2001)]


async def test_who_comes_later_has_what_comes_from_then_on():
    async with open_job("echo 1; read -r go; echo 2", stdin="pipe") as job:
        early = job.lines()
        assert (await anext(early)).data == b"1"
        late = job.lines()
        await job.stdin.send(b"\n")
        assert [line.data async for line in late] == [b"2"]
        assert [line.data async for line in early] == [b"2"]
        await job.wait()
        assert [line async for line in job.lines()] == []


async def test_reading_starts_with_the_first_consumer(fifo):
    path = fifo("go")
    reader = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    async with open_job(f"echo first; echo >{path}; echo second") as job:
        await anyio.wait_readable(reader)  # so it has written, and the loop has had its turns
        await anyio.wait_all_tasks_blocked()
        assert [line.data async for line in job.lines()] == [b"first", b"second"]
    os.close(reader)


async def test_a_command_that_nobody_reads_waits_and_wait_discards_and_counts():
    async with open_job(f"{MUCH}; echo end") as job:
        with anyio.move_on_after(0.2) as scope:
            await anyio.wait_readable(pidfd := os.pidfd_open(job.pid))
        os.close(pidfd)
        assert scope.cancelled_caught, "it has ended, though nobody read what it wrote"
        result = await job.wait()
    assert result.dropped_bytes == MUCH_BYTES + 4
    assert result.returncode == 0


async def taken_and_left(job, way):
    """Take something, and leave the iterator in one of many ways."""
    if way == "break":
        async for _ in job:
            break
    elif way == "del":
        iterator = job.writes()
        await anext(iterator)
        del iterator
    elif way == "close":
        iterator = job.lines()
        await anext(iterator)
        iterator.close()
        assert [line async for line in iterator] == []
    elif way == "anext":
        await anext(job.writes())
    else:
        async for _ in job:
            raise Failure


@pytest.mark.parametrize("way", ["break", "del", "close", "anext"])
async def test_an_iterator_that_is_left_holds_nobody_back(way):
    async with open_job(MUCH) as job:
        await taken_and_left(job, way)
        with anyio.fail_after(20):
            result = await job.wait()
    assert 0 < result.dropped_bytes < MUCH_BYTES


async def test_an_iterator_left_by_an_error_holds_nobody_back():
    async with open_job(MUCH) as job:
        try:
            await taken_and_left(job, "error")
        except Failure:
            with anyio.fail_after(20):
                result = await job.wait()
    assert 0 < result.dropped_bytes < MUCH_BYTES


@pytest.mark.parametrize("way", ["anyio", "asyncio"])
async def test_an_iterator_whose_wait_was_cancelled_holds_nobody_back(way):
    """In the handler of the error, too: its traceback knows where the iteration was."""
    async with open_job(f"read -r go; {MUCH}", stdin="pipe") as job:
        try:
            with anyio.fail_after(20):
                if way == "anyio":
                    with anyio.fail_after(0.05):
                        async for _ in job:
                            pass
                else:
                    async with asyncio.timeout(0.05):
                        async for _ in job:
                            pass
        except TimeoutError:
            await job.stdin.send(b"\n")
            with anyio.fail_after(20):
                result = await job.wait()
    assert result.dropped_bytes == MUCH_BYTES


async def test_a_wait_that_was_cancelled_can_be_taken_up_again():
    async with open_job("read -r go; seq 3", stdin="pipe") as job:
        lines = job.lines()
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(anext(lines), 0.05)
        await job.stdin.send(b"\n")
        assert [line.data async for line in lines] == [b"1", b"2", b"3"]


async def test_pause_and_resume():
    async with open_job("echo 1; read -r go; echo 2; echo 3", stdin="pipe") as job:
        lines = job.lines()
        assert (await anext(lines)).data == b"1"
        job.pause()
        await job.stdin.send(b"\n")
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(anext(lines), 0.2)
        job.resume()
        assert [line.data async for line in lines] == [b"2", b"3"]


SLOW = """
import asyncio, sys, uvloop, dtee_async
async def main():
    taken = 0
    async with dtee_async.open_job("dd if=/dev/zero bs=65536 count=6400 status=none", capture=sys.argv[2]) as job:
        async for write in job:
            taken += len(write.data)
            if taken % (1 << 20) == 0:
                await asyncio.sleep(0.002)  # the slowness
        assert (await job.wait()).dropped_bytes == 0
    assert taken == 400 << 20
def many_lines():
    async def main():
        async with dtee_async.open_job("yes ''", capture="pipe") as job:
            lines = job.lines()
            for _ in range(100_000):
                await anext(lines)
    return main()
with asyncio.Runner(loop_factory=uvloop.new_event_loop if sys.argv[1] == "uvloop" else None) as runner:
    runner.run(many_lines() if sys.argv[2] == "lines" else main())
print(next(int(line.split()[1]) * 1024 for line in open("/proc/self/status") if line.startswith("VmHWM")))
"""


@pytest.mark.parametrize("what", ["ordered", "pipe", "lines"])
def test_a_slow_consumer_pushes_back_and_memory_is_bounded(loop_name, what):
    done = subprocess.run([sys.executable, "-c", SLOW, loop_name, what], stdout=subprocess.PIPE, check=True)
    assert int(done.stdout) < 40 << 20


@pytest.mark.parametrize(("size_bytes", "limit_bytes"), [(1 << 20, 1 << 20), (3_000_000, 1 << 20), (1 << 20, 1000)])
async def test_a_very_long_line(size_bytes, limit_bytes):
    code = f"import os; d = b'ab' * {size_bytes // 2} + b'\\nlast\\n'\nwhile d: d = d[os.write(1, d[:50000]):]"
    async with open_job([sys.executable, "-c", code]) as job:
        *parts, last = [line async for line in job.lines(limit_bytes)]
    assert b"".join(part.data for part in parts) == b"ab" * (size_bytes // 2)
    assert [part.complete for part in parts] == [False] * (len(parts) - 1) + [True]
    assert len(parts) == -(-size_bytes // limit_bytes)
    assert (last.data, last.complete) == (b"last", True)


async def test_bytes_that_are_not_text_come_through():
    async with open_job(r"printf '\377\376\n\303\244\n\303\n\000\n'") as job:
        texts = [line.text async for line in job.lines()]
    assert texts == ["\udcff\udcfe", "ä", "\udcc3", "\0"]
    assert [text.encode("utf-8", "surrogateescape") for text in texts] == [b"\xff\xfe", b"\xc3\xa4", b"\xc3", b"\0"]


async def test_a_process_that_was_left_behind_and_holds_stdout_keeps_nobody():
    async with open_job("echo one; sleep 100 &", linger_s=0.1) as job:
        with anyio.fail_after(20):
            assert [line.data async for line in job.lines()] == [b"one"]
            result = await job.wait()
    assert result.writers_left
    os.killpg(job.pid, signal.SIGKILL)


@pytest.mark.parametrize(("keep", "expected"), [("head", b"1\n2\n3"), ("tail", b"\n10\n")])
async def test_the_result_keeps_as_much_as_was_asked_for(keep, expected):
    async with open_job("seq 10", limit_bytes=len(expected), keep=keep) as job:
        assert len([line async for line in job.lines()]) == 10
        result = await job.wait()
    assert (result.stdout, result.truncated, result.dropped_bytes) == (expected, True, 21 - len(expected))


async def test_a_job_spec_says_it_all(tmp_path):
    spec = JobSpec("job", ("sh", "-c", "echo out; echo err >&2"), outputs=(OutputFile(str(tmp_path / "log"), None, append=False),))
    async with open_job(spec) as job:
        assert [line.data async for line in job.lines()] == [b"out", b"err"]
        await job.wait()
    assert (tmp_path / "log").read_text() == "out\nerr\n"


async def test_terminate_ends_the_group_and_what_ignores_it_is_killed():
    async with open_job("trap '' TERM; sleep 100 & echo up; while :; do sleep 1; done") as job:
        await anext(job.lines())
        assert job.result is None
        result = await job.terminate(0.1)
        assert (result.signal, job.result, members(job.pid)) == (signal.SIGKILL, result, [])
        assert await job.terminate(0.1) is result
        assert await job.kill() is result
        job.send_signal(signal.SIGTERM)


async def test_what_a_command_says_at_its_end_is_heard():
    async with open_job("trap 'echo bye; exit 3' TERM; echo up; while :; do sleep 0.05; done") as job:
        lines = job.lines()
        await anext(lines)
        result = await job.terminate()
        assert [line.data async for line in lines][-1] == b"bye"  # the shell may say more
    assert result.returncode == 3


async def test_a_signal_reaches_the_group():
    async with open_job("trap 'echo usr1; exit 0' USR1; echo up; while :; do sleep 0.05; done") as job:
        lines = job.lines()
        await anext(lines)
        job.send_signal(signal.SIGUSR1)
        assert [line.data async for line in lines][-1] == b"usr1"
        assert (await job.wait()).returncode == 0


async def test_kill_delivers_what_was_written_before():
    async with open_job("echo before; exec sleep 100", limit_bytes=100) as job:
        await anext(job.lines())
        result = await job.kill()
    assert (result.signal, result.stdout) == (signal.SIGKILL, b"before\n")


@pytest.mark.parametrize("end", ["terminate", "kill", "leave"])
@pytest.mark.parametrize("held", ["iterator", "pause"])
async def test_a_job_that_is_held_back_can_be_ended_at_once(end, held):
    async with open_job("exec seq 100000000") as job:
        lines = job.lines()
        assert (await anext(lines)).data == b"1"
        if held == "pause":
            job.pause()
            lines.close()
        await anyio.sleep(0.1)  # until it is full, mostly
        begin = time.monotonic()
        if end == "terminate":
            await job.terminate()
        elif end == "kill":
            await job.kill()
    assert time.monotonic() - begin < 3
    if held == "iterator":
        rest = [line async for line in lines]
        assert b"".join(line.data for line in rest).startswith(b"2345678910")
        numbers = [int(line.data) for line in rest if line.complete]
        assert numbers == [*range(2, len(numbers) + 2)]


@pytest.mark.parametrize("error", [Failure, KeyboardInterrupt, SystemExit, OSError])
async def test_an_error_of_the_block_is_raised_as_it_is_and_nothing_is_left(error):
    mine = error("mine")
    with pytest.raises(error) as caught:
        async with open_job("sleep 100 & trap '' TERM; echo up; sleep 100", grace_s=0.1) as job:
            async for _ in job:
                raise mine
    assert caught.value is mine
    assert members(job.pid) == []


@pytest.mark.parametrize("options", [{}, {"out_append": "/dev/full"}], ids=["stdin", "output"])
async def test_an_error_of_the_block_goes_before_those_of_the_job(options):
    async def broken():
        yield b"x"
        raise KeyError("broken")

    with pytest.raises(Failure):
        async with open_job("cat", stdin=broken(), **options) as job:
            async for _ in job:
                pass
            raise Failure
    assert job.result is not None


async def test_an_output_that_failed_is_raised_when_the_block_is_left():
    with pytest.raises(dtee_async.OutputError, match="/dev/full"):
        async with open_job("echo x", out_append="/dev/full") as job:
            async for _ in job:
                pass


async def test_leaving_the_block_ends_the_job():
    async with open_job("sleep 100 & exec sleep 100") as job:
        pass
    assert job.result.signal == signal.SIGTERM
    assert members(job.pid) == []


async def test_who_is_cancelled_twice_leaves_nothing():
    async def one():
        async with open_job("trap '' TERM; sleep 100 & echo up; while :; do sleep 1; done", stdin=b"x" * 1_000_000) as job:
            pids.append(job.pid)
            await anext(job.lines())
            up.set()
            await job.wait()

    pids, up = [], asyncio.Event()
    task = asyncio.create_task(one())
    await up.wait()
    task.cancel()
    await anyio.wait_all_tasks_blocked()
    begin = time.monotonic()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert time.monotonic() - begin < 5
    assert members(pids[0]) == []


async def test_its_state():
    async with open_job("trap 'echo bye; exit 3' TERM; echo up; while :; do sleep 0.01; done") as job:
        assert (await anext(job.lines())).data == b"up"
        assert job.state is State.RUNNING
        ending = asyncio.create_task(job.terminate())
        await asyncio.sleep(0)
        assert job.state is State.TERMINATING
        await ending
        assert job.state is State.FAILED
    async with open_job("true") as job:
        await job.wait()
        assert job.state is State.COMPLETED


async def test_two_wait_for_the_same_end():
    async with open_job("read -r go; exit 4", stdin="pipe") as job:
        waiting = [asyncio.create_task(job.wait()) for _ in range(2)]
        await job.stdin.send(b"\n")
        first, second = await asyncio.gather(*waiting)
    assert first is second
    assert first.returncode == 4


async def test_a_job_that_cannot_start_is_one_plain_error():
    with pytest.raises(dtee_async.CommandNotFoundError):
        async with open_job(["nonexistent-command"]):
            pytest.fail("it was started")


async def test_one_that_cannot_be_lines_is_refused():
    async with open_job("true") as job:
        with pytest.raises(dtee_async.ConfigError, match="limit_bytes"):
            job.lines(0)


def test_without_a_loop_it_says_what_it_needs():
    with pytest.raises(dtee_async.LoopError, match=r"needs a running asyncio event loop .* trio"):
        open_job("true").__aenter__().send(None)


INTERRUPTED = """
import asyncio, signal, sys, uvloop, dtee_async
handlers = {number: signal.getsignal(number) for number in signal.valid_signals()}
async def main():
    async with dtee_async.open_job("trap '' INT; echo up; sleep 100 & wait") as job:
        async for line in job.lines():
            print(job.pid, flush=True)
with asyncio.Runner(loop_factory=uvloop.new_event_loop if sys.argv[1] == "uvloop" else None) as runner:
    try:
        runner.run(main())
    except KeyboardInterrupt:
        assert handlers == {number: signal.getsignal(number) for number in signal.valid_signals()}
        print("interrupted")
"""


def test_ctrl_c_leaves_nothing(loop_name):
    with subprocess.Popen([sys.executable, "-c", INTERRUPTED, loop_name], stdout=subprocess.PIPE) as process:
        pid = int(process.stdout.readline())
        process.send_signal(signal.SIGINT)
        assert process.stdout.read() == b"interrupted\n"
    assert process.returncode == 0
    assert members(pid) == []


async def test_from_a_thread_that_waits_for_the_loop():
    def work():
        return anyio.from_thread.run(dtee_async.run, "echo from a thread")

    assert (await anyio.to_thread.run_sync(work)).stdout == b"from a thread\n"


def test_loops_in_threads_do_not_know_of_each_other():
    got = {}

    async def one(number):
        async with open_job(f"seq {number} 20000") as job:
            return [int(line.data) async for line in job.lines()]

    def work(number):
        got[number] = asyncio.run(one(number))

    threads = [threading.Thread(target=work, args=(number,)) for number in (1, 2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert got == {number: [*range(number, 20001)] for number in (1, 2)}


async def test_twenty_cancellations_leave_nothing(tmp_path):
    """The soak makes five hundred."""
    assert await cancellations.cancel_many(range(20), tmp_path) > 0


@pytest.mark.parametrize("who", ["writes", "lines"])
async def test_an_iterator_that_is_kept_and_not_read_does_not_hold_back_who_waits(who):
    async with open_job(f"echo ready; {MUCH}; exit 3") as job:
        kept = getattr(job, who)()
        async for _ in kept:
            break
        assert (await job.wait()).returncode == 3
        if who == "writes":
            assert sum([len(write.data) async for write in kept]) == MUCH_BYTES


async def test_an_iterator_that_is_kept_goes_on_where_it_was():
    async with open_job("printf 'ready\\npayload\\n'; echo more") as job:
        lines = job.lines()
        async for line in lines:
            if line.text == "ready":
                break
        assert [line.text async for line in lines] == ["payload", "more"]


async def test_an_iterator_that_missed_something_says_so():
    async with open_job("dd if=/dev/zero bs=65536 count=256 status=none") as job:
        writes = job.writes()
        await job.wait()
        taken = 0
        with pytest.raises(dtee_async.OutputError, match=r"\d+ bytes came while nobody took any, and are lost") as caught:
            async for write in writes:
                taken += len(write.data)
        assert taken + int(caught.value.strerror.split()[0]) == 256 * 65536
        with pytest.raises(StopAsyncIteration):
            await anext(writes)


async def test_many_lines_at_once_leave_the_loop_its_turns():
    turns = 0

    async def count():
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    counting = asyncio.create_task(count())
    async with open_job("yes | head -n 100000", capture="pipe") as job:
        await asyncio.sleep(0.2)
        lines = 0
        async for _ in job.lines():
            lines += 1
            if lines == 1:
                turns = 0
    counting.cancel()
    assert lines == 100_000
    assert turns > 100_000 / 256 / 2


async def test_an_unknown_status_is_an_error_each_time_and_no_success():
    async with open_job("true") as job:
        os.waitpid(job.pid, 0)
        for _ in range(2):
            with pytest.raises(dtee_async.UnknownExitStatusError):
                await job.wait()
        assert job.state is State.FAILED


async def test_who_was_told_to_end_and_does_has_completed():
    async with open_job(["sleep", "100"]) as job:
        await job.terminate()
        assert job.state is State.COMPLETED
    async with open_job("trap '' TERM; echo; while :; do sleep 1; done") as job:
        await anext(job.lines())
        await job.terminate(0.05)
        assert job.state is State.FAILED


async def test_everything_can_be_kept_beside_iterating():
    async with open_job("echo a; echo b", limit_bytes=None) as job:
        async for _ in job:
            break
        assert (await job.wait()).stdout == b"a\nb\n"


async def test_without_a_pipe_there_is_no_stdin():
    async with open_job("true") as job:
        with pytest.raises(RuntimeError, match='stdin="pipe"'):
            job.stdin  # noqa: B018
