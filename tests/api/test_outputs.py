"""Outputs of an application's own, and what becomes of their errors."""

import asyncio

import pytest

import dtee_async
from dtee_async import Exit, OutputError, Stream, Supervisor, open_job, run

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
    with pytest.raises(
        TypeError, match=r"outputs: expected objects with open\(\), write\(\), end\(\) and close\(\), got list without open\(\)"
    ):
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

    with pytest.raises(OutputError):
        await run(COMMAND, outputs=[Full("write")])
    assert isinstance((await run(COMMAND, outputs=[Full()])).exit, Exit)
