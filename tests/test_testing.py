"""FakeJob: what a consumer sees of it is what it sees of a real command that does the same."""

import signal
import sys

import anyio
import pytest

import dtee_async
from dtee_async import Line, RunningJob, Stream
from dtee_async.testing import FakeJob

OUT, ERR = Stream.STDOUT, Stream.STDERR
SCRIPT = [
    (OUT, b"one\n"),
    (ERR, b"two\nthr"),
    (OUT, b"\xff not UTF-8, no newline"),
    (ERR, b"ee\n", 0.02),
    (OUT, b"x" * 100_000 + b"\n" + b"y" * 10),
    (ERR, b"last"),
]
PLAYER = """
import os, sys, time
for stream, data, *delay_s in {script!r}:
    time.sleep(sum(delay_s))
    os.write(stream, data)
{end}
"""


def player(script, end):
    steps = [(int(stream), *rest) for stream, *rest in script]
    return [sys.executable, "-c", PLAYER.format(script=steps, end=end)]


def real(script, end="sys.exit(3)", **options):
    return dtee_async.open_job(player(script, end), **options)


def fake(script, returncode=3, **options):
    return FakeJob(script, returncode, command=player(script, "sys.exit(3)"), **options)


def fields(result):
    """All of a result but what no two runs have in common."""
    writes = [(write.stream, bytes(write.data), write.whole) for write in result.writes]
    assert 0 < result.duration_s < 20
    return result._replace(writes=writes, exit=result.exit.returncode, started=result.started.tzinfo, duration_s=0)


async def collect(iterator):
    return [item async for item in iterator]


async def seen(opened):
    """What several consumers see, and the result."""
    found = {}

    async def keep(name, iterator):
        found[name] = await collect(iterator)

    async with opened as job, anyio.create_task_group() as group:
        assert isinstance(job, RunningJob)
        assert job.result is None
        for name, iterator in {"writes": aiter(job), "lines": job.lines(), "parts": job.lines(50_000)}.items():
            group.start_soon(keep, name, iterator)
        result = await job.wait()
    assert job.result is result
    assert {write.pid for write in found["writes"]} == {job.pid}
    times_ns = [write.time_ns for write in found["writes"]]
    assert times_ns == sorted(times_ns)
    assert found["lines"][0].time_ns == times_ns[0]
    plain = {
        name: [item._replace(time_ns=0, **({"pid": 0} if name == "writes" else {})) for item in items] for name, items in found.items()
    }
    return plain, fields(result)


async def test_consumers_see_of_it_what_they_see_of_a_command():
    found, result = await seen(fake(SCRIPT))
    assert (found, result) == await seen(real(SCRIPT))
    assert result.exit == 3
    assert [(write.stream, write.data) for write in found["writes"]] == [step[:2] for step in SCRIPT]
    assert Line(ERR, b"three", 0, complete=True) in found["lines"]


@pytest.mark.parametrize("keep", ["head", "tail"])
async def test_its_result_keeps_what_is_asked_for(keep):
    _, result = await seen(fake(SCRIPT, limit_bytes=70_000, keep=keep))
    assert (_, result) == await seen(real(SCRIPT, limit_bytes=70_000, keep=keep))
    assert result.truncated


async def test_without_consumers_wait_counts_what_it_wrote():
    results = []
    for opened in (fake(SCRIPT), real(SCRIPT)):
        async with opened as job:
            results.append(fields(await job.wait()))
    assert results[0] == results[1]
    assert results[0].dropped_bytes == sum(len(data) for _, data, *_ in SCRIPT)


@pytest.mark.parametrize("how", ["terminate", "kill", "leave", "signal"])
async def test_it_is_ended_as_a_command_is(how):
    found = []
    for opened in (fake([(OUT, b"ready\n"), (OUT, b"never", 100)]), real([(OUT, b"ready\n")], "time.sleep(100)")):
        async with opened as job:
            lines = job.lines()
            assert (await anext(lines)).text == "ready"
            match how:
                case "terminate" | "kill":
                    result = await getattr(job, how)()
                    assert result is await job.wait()
                case "signal":
                    job.send_signal(signal.SIGTERM)
                    await job.wait()
                    job.send_signal(signal.SIGKILL)  # it has ended
                    assert getattr(job, "signals", [signal.SIGTERM]) == [signal.SIGTERM]
        found.append((job.result.returncode, job.result.signal, await collect(lines)))
    assert found[0] == found[1]
    assert found[0][0] == (-signal.SIGKILL if how == "kill" else -signal.SIGTERM)


async def test_the_error_of_the_block_is_raised_as_it_is():
    with pytest.raises(ZeroDivisionError):
        async with fake([(OUT, b"never", 100)]) as job:
            _ = 1 / 0
    assert job.signals == [signal.SIGTERM]


async def test_one_that_ignores_a_signal_is_killed_after_its_grace():
    async with FakeJob([(OUT, b"never", 100)], ignored_signals=[signal.SIGTERM, signal.SIGKILL]) as job:
        job.send_signal(signal.SIGWINCH)
        result = await job.terminate(0.05)
    assert result.signal == signal.SIGKILL
    assert result.duration_s > 0.04  # the clock of a loop may be a millisecond behind
    assert job.signals == [signal.SIGWINCH, signal.SIGTERM, signal.SIGKILL]


async def test_what_is_written_to_its_stdin_is_kept():
    async with FakeJob([]) as job:
        await job.stdin.send(b"one ")
        async with job.stdin as stdin:
            await stdin.send(b"two")
        assert (job.stdin.data, job.stdin.closed) == (b"one two", True)
        with pytest.raises(anyio.ClosedResourceError):
            await job.stdin.send(b"three")


async def test_a_pause_holds_back_what_consumers_get():
    async with FakeJob([(OUT, b"one\n"), (OUT, b"two\n", 0.01), (OUT, b"three\n")]) as job:
        lines = job.lines()
        assert (await anext(lines)).text == "one"
        job.pause()
        with anyio.move_on_after(0.1) as scope:
            await anext(lines)
        assert scope.cancelled_caught
        job.resume()
        assert [line.text for line in await collect(lines)] == ["two", "three"]
        assert (await job.wait()).returncode == 0


async def test_delays_are_kept():
    began_s = anyio.current_time()
    async with FakeJob([(OUT, b"", 0.1), (ERR, b"x", 0.1)]) as job:
        first, second = await collect(job)
    assert anyio.current_time() - began_s > 0.198  # the clock of uvloop counts milliseconds
    assert second.time_ns - first.time_ns >= 90e6
