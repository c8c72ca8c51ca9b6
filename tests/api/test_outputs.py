"""Outputs of an application's own, and what becomes of their errors."""

import asyncio
import os

import pytest

import dtee_async
from dtee_async import OutputError, Stream, Supervisor, open_job, run

COMMAND = "echo one; echo two >&2; echo three"
WHOLE = b"one\ntwo\nthree\n"


class Mine:
    """An output that raises where it is told to."""

    name = "mine"
    wants_stamps = True

    def __init__(self, raises="", error=None):
        self.raises = raises
        self.error = error or ZeroDivisionError("mine")
        self.writes = []
        self.calls = []

    def _call(self, what):
        self.calls.append(what)
        if what == self.raises:
            raise self.error

    def open(self, flow):
        self.flow = flow
        self._call("open")

    def write(self, batch):
        self.writes += [write._replace(data=bytes(write.data)) for write in batch]
        self._call("write")

    def end(self, exit):
        self.exit = exit
        self._call("end")

    def close(self):
        self._call("close")
        return 0

    @property
    def combined(self):
        return b"".join(write.data for write in self.writes)


async def test_it_gets_every_write_with_its_stream_time_and_writer():
    mine = Mine()
    result = await run(COMMAND, outputs=[mine])
    assert mine.writes == [write._replace(data=bytes(write.data)) for write in result.writes]
    assert [write.stream for write in mine.writes] == [Stream.STDOUT, Stream.STDERR, Stream.STDOUT]
    assert mine.calls[0] == "open" and mine.calls[-2:] == ["end", "close"]
    assert mine.exit == result.exit


async def test_that_of_a_job_gets_all_whoever_iterates():
    mine = Mine()
    async with open_job(COMMAND, outputs=[mine]) as job:
        async for _ in job:
            break
        await job.wait()
    assert mine.combined == WHOLE


@pytest.mark.parametrize("raises", ["open", "write", "end", "close"])
@pytest.mark.parametrize("error", [ZeroDivisionError("mine"), OSError(28, "No space left on device"), OSError("a text only")])
async def test_one_that_raises_is_left_out_and_is_the_error_in_the_end(raises, error, tmp_path):
    mine, other = Mine(raises, error), Mine()
    with pytest.raises(OutputError) as caught:
        await run(COMMAND, outputs=[mine, other], combined_append=tmp_path / "log")
    assert (caught.value.filename, caught.value.__cause__) == ("mine", error)
    assert str(error.args[-1]) in str(caught.value)
    assert mine.calls.count("close") == 1 and mine.calls[-1] == "close"
    assert other.combined == (tmp_path / "log").read_bytes() == WHOLE


async def test_one_that_paused_and_raises_holds_nobody_back():
    class Paused(Mine):
        def open(self, flow):
            flow.pause()
            super().open(flow)

    with pytest.raises(OutputError):
        await run(COMMAND, outputs=[Paused("open")])


async def test_one_that_pauses_holds_the_command_back():
    class Slow(Mine):
        def write(self, batch):
            super().write(batch)
            self.flow.pause()
            self.loop.call_later(0.001, self.flow.resume)

    slow = Slow()
    slow.loop = asyncio.get_running_loop()
    result = await run("seq 2000", outputs=[slow])
    assert slow.combined == result.stdout


async def test_what_is_none_is_refused_before_anything_is_started(tmp_path):
    with pytest.raises(TypeError, match=r"outputs: expected objects with open\(\), .*, got list, whose open\(\) is missing"):
        await run(f"touch {tmp_path}/started", outputs=[[]])
    assert not (tmp_path / "started").exists()


async def test_those_of_a_supervised_job_are_made_for_each_attempt(tmp_path):
    made = []

    def outputs():
        made.append(Mine())
        return [made[-1]]

    again = dtee_async.Availability(dtee_async.Restart.ON_FAILURE, backoff_seconds=0.01)
    async with Supervisor() as sup:
        job = sup.start(f"echo x; test -e {tmp_path}/n || {{ touch {tmp_path}/n; exit 1; }}", outputs=outputs, availability=again)
        result = await job.wait()
    assert (result.attempts, result.error) == (2, None)
    assert [(each.combined, each.exit.returncode) for each in made] == [(b"x\n", 1), (b"x\n", 0)]


@pytest.mark.parametrize("where", ["write", "factory"])
async def test_the_error_of_one_of_a_supervised_job_is_in_its_result(where):
    def outputs():
        return [Mine("write")] if where == "write" else 1 / 0

    async with Supervisor() as sup:
        result = await sup.start(COMMAND, outputs=outputs).wait()
    assert isinstance(result.error, OutputError)
    assert "ZeroDivisionError" in str(result.error)


async def test_what_it_did_not_deliver_is_counted():
    class Full(Mine):
        def close(self):
            return 3

    with pytest.raises(OutputError, match="3 bytes were not delivered in time, and are lost: 'mine'") as caught:
        await run(COMMAND, outputs=[Full()])
    assert caught.value.result.combined == WHOLE
    with pytest.raises(OutputError, match="ZeroDivisionError"):
        await run(COMMAND, outputs=[Full("write")])


@pytest.mark.parametrize("raises", [False, True])
@pytest.mark.parametrize("mode", ["ordered", "pipe"])
async def test_one_that_pauses_and_resumes_in_the_middle_of_a_batch_reorders_nothing(raises, mode, tmp_path):
    """The command has ended before anything is read: everything comes while it is drained."""

    class Full(Mine):
        def write(self, batch):
            super().write(batch)
            self.flow.pause()
            if raises:
                raise asyncio.QueueFull
            self.flow.resume()

    full, other = Full(), Mine()
    options = {"outputs": [full, other], "combined_overwrite": tmp_path / "log", "capture": mode, "limit_bytes": None}
    text = b"".join(b"%d\n" % i for i in range(9))
    async with open_job("for i in 0 1 2 3 4 5 6 7 8; do echo $i; done; exec true", **options) as job:
        while os.path.exists(f"/proc/{job.pid}"):
            await asyncio.sleep(0.01)
        if raises:
            with pytest.raises(OutputError, match="QueueFull"):
                await job.wait()
        else:
            await job.wait()
            assert full.combined == text
    assert (other.combined, job.result.combined, (tmp_path / "log").read_bytes()) == (text, text, text)
    assert other.calls[-2:] == ["end", "close"] and other.calls.count("end") == 1


@pytest.mark.parametrize("error", [asyncio.CancelledError(), SystemExit(3), GeneratorExit()])
async def test_whatever_it_raises_the_others_have_the_batch(error):
    mine, other = Mine("write", error), Mine()
    with pytest.raises(OutputError, match=type(error).__name__) as caught:
        await run("echo hello; echo two", outputs=[mine, other])
    assert other.combined == caught.value.result.combined == b"hello\ntwo\n"


async def test_what_it_asks_for_after_it_has_failed_is_nothing():
    class Late(Mine):
        def open(self, flow):
            super().open(flow)
            asyncio.get_running_loop().call_later(0.05, flow.pause)

    with pytest.raises(OutputError):
        await run("echo a; sleep 0.2; echo b", outputs=[Late("write")])


async def test_a_callback_that_raises_is_its_failure_and_is_called_no_more():
    class Waiting(Mine):
        count = 0

        def open(self, flow):
            super().open(flow)
            self.reader, self.writer = os.pipe()
            flow.when_writable(self.writer, self.ready)

        def ready(self):
            self.count += 1
            raise KeyError("mine")

        def close(self):
            os.close(self.reader)
            os.close(self.writer)
            return super().close()

    mine = Waiting()
    with pytest.raises(OutputError, match="KeyError"):
        await run("sleep 0.1", outputs=[mine])
    assert (mine.count, mine.calls[-1]) == (1, "close")


async def test_one_that_is_stuck_is_left_out_at_the_end_and_the_result_has_all():
    class Stuck(Mine):
        def write(self, batch):
            super().write(batch)
            self.flow.pause()

    with pytest.raises(dtee_async.CommandTimeoutError) as caught:
        await run("echo a; sleep 0.1; echo b; echo c", outputs=[Stuck()], timeout_s=2, grace_s=0.2)
    assert caught.value.result.combined == b"a\nb\nc\n"
    assert str(caught.value.__cause__) == "[Errno 110] 4 bytes were not delivered in time, and are lost: 'mine'"


async def test_a_command_that_cannot_start_closes_one_that_pauses():
    class Paused(Mine):
        def open(self, flow):
            super().open(flow)
            flow.pause()

    paused = Paused()
    with pytest.raises(dtee_async.CommandNotFoundError):
        await run(["/nonexistent"], outputs=[paused])
    assert paused.calls == ["open", "end", "close"]
    assert paused.exit.returncode == 127


async def test_async_methods_are_refused():
    class Async(Mine):
        async def write(self, batch):
            pass

    with pytest.raises(TypeError, match=r"got Async, whose write\(\) is async"):
        await run("true", outputs=[Async()])


async def test_an_output_of_a_supervised_job_that_fails_as_it_is_opened_is_in_its_result():
    async with Supervisor() as sup:
        result = await sup.start("echo a", outputs=lambda: [Mine("open")]).wait()
    assert isinstance(result.error, OutputError)
