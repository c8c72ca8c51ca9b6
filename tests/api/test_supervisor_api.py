"""``async with dtee_async.Supervisor() as sup`` as an author of an async application uses it."""

import asyncio
import gc
import os
import signal
import threading
import weakref

import anyio
import pytest

import dtee_async
from dtee_async import (
    Availability,
    Condition,
    EventsLost,
    Health,
    JobExited,
    JobReady,
    JobRestarting,
    JobSkipped,
    JobSpec,
    JobStarted,
    OutputFile,
    Restart,
    Shutdown,
    State,
    Stopping,
    Stream,
    Supervisor,
)
from dtee_async.api.events import EVENTS_HELD
from dtee_async.process.group import members

SLEEP = "echo ready; exec sleep 100"
STUBBORN = "trap '' TERM; echo ready; while :; do sleep 1; done"


def again(**options):
    return Availability(Restart.ON_FAILURE, **{"backoff_seconds": 0.01, "backoff_max_seconds": 0.02} | options)


async def speak(*jobs):
    """Wait for the first line of each; that has not been written yet."""
    return [await anext(lines) for lines in [job.lines() for job in jobs]]


async def collect(iterator):
    return [item async for item in iterator]


async def test_jobs_are_started_and_awaited():
    async with Supervisor() as sup:
        good = sup.start("echo x", name="good")
        bad = sup.start(["sh", "-c", "exit 3"])
        assert sup.jobs == {"good": good, "job-2": bad}
        result = await good.wait()
        assert (result.name, result.state, result.exit.returncode, result.attempts) == ("good", State.COMPLETED, 0, 1)
        assert (result.status, result.reason, result.error, result.lossless) == (0, "", None, True)
        assert 0 < result.duration_s < 20
        assert result.max_rss_bytes > 0
        assert result.succeeded
        result = await bad.wait()
        assert (result.state, result.exit.returncode, result.status, result.succeeded) == (State.FAILED, 3, 3, False)
        assert await sup.wait() == 3
        assert good.pid is None
    assert (good.state, good.attempts) == (State.COMPLETED, 1)


async def test_leaving_the_block_ends_what_has_not_ended():
    async with Supervisor() as sup:
        jobs = [sup.start(SLEEP), sup.start("sleep 100 & echo; wait")]
        await speak(*jobs)
        pids = [job.pid for job in jobs]
        assert all(members(pid) for pid in pids)
    assert [members(pid) for pid in pids] == [[], []]
    assert [(await job.wait()).exit.signal for job in jobs] == [signal.SIGTERM, signal.SIGTERM]
    assert [job.state for job in jobs] == [State.COMPLETED, State.COMPLETED]


async def test_what_ignores_term_is_killed_after_its_grace():
    async with Supervisor() as sup:
        job = sup.start(JobSpec("stubborn", STUBBORN, shutdown=Shutdown(timeout_seconds=0.2)))
        await speak(job)
    assert (await job.wait()).exit.signal == signal.SIGKILL


async def test_when_all_have_ended_what_they_left_is_left_alone():
    async with Supervisor() as sup:
        events = sup.events()
        job = sup.start("sleep 100 >/dev/null 2>&1 &")
        group = (await anext(events)).pid
        await job.wait()
    left = members(group)
    os.killpg(group, signal.SIGKILL)
    assert [member.name for member in left] == ["sleep"]
    assert job.state is State.COMPLETED


async def test_an_error_of_the_block_is_raised_as_it_is_and_all_have_ended():
    with pytest.raises(ZeroDivisionError):
        async with Supervisor() as sup:
            job = sup.start(SLEEP)
            await job.reaches("process_started")
            pid = job.pid
            _ = 1 / 0
    assert members(pid) == []


@pytest.mark.parametrize("way", ["anyio", "task", "twice", "timeout"])
async def test_a_cancelled_block_ends_all_before_it_is_left(way):
    pids, on_ready = [], []

    async def block():
        async with Supervisor() as sup:
            job = sup.start(JobSpec("stubborn", STUBBORN, shutdown=Shutdown(timeout_seconds=0.3)))
            await speak(job)
            pids.append(job.pid)
            ready.set()
            for call in on_ready:
                call()
            await anyio.sleep(100)

    ready = anyio.Event()
    match way:
        case "anyio":
            async with anyio.create_task_group() as group:
                group.start_soon(block)
                await ready.wait()
                group.cancel_scope.cancel()
        case "timeout":
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(None) as limit:
                    on_ready.append(lambda: limit.reschedule(0))
                    await block()
        case _:
            task = asyncio.create_task(block())
            await ready.wait()
            task.cancel()
            if way == "twice":
                await asyncio.wait([task], timeout=0.05)
                task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
    assert [members(pid) for pid in pids] == [[]]


async def test_a_job_waits_for_what_it_depends_on_by_name():
    async with Supervisor() as sup:
        events = sup.events()
        db = sup.start(JobSpec("db", "sleep 0.05; echo listening; exec sleep 100", health=Health(ready_log_line="listening")))
        web = sup.start(JobSpec("web", SLEEP, depends_on={"db": "process_log_ready"}))
        await web.reaches(Condition.STARTED)
        assert db.state is State.READY
        await db.reaches("process_log_ready")
        await sup.stop()
        told = [(event.job, type(event)) for event in await collect(events) if isinstance(event, JobStarted | JobReady | JobExited)]
        assert told == [("db", JobStarted), ("db", JobReady), ("web", JobStarted), ("web", JobExited), ("db", JobExited)]


async def test_a_dependency_that_fails_skips_what_depends_on_it():
    async with Supervisor() as sup:
        sup.start("exit 1", name="migration")
        web = sup.start(JobSpec("web", "true", depends_on={"migration": Condition.COMPLETED_SUCCESSFULLY}))
        result = await web.wait()
        assert (result.state, result.attempts, result.exit, result.status) == (State.SKIPPED, 0, None, None)
        assert result.reason == "migration is Failed, and process_completed_successfully is needed of it"
        with pytest.raises(dtee_async.DteeError, match="^web is Skipped, and has not reached process_started: migration is Failed"):
            await web.reaches("process_started")
        assert await sup.wait() == 1


@pytest.mark.parametrize(
    ("spec", "error"),
    [
        (JobSpec("one", "true"), "jobs.one: there is a job of this name already"),
        (
            JobSpec("web", "true", depends_on={"onee": Condition.STARTED}),
            "jobs.web.depends_on.onee: no job has this name; did you mean one",
        ),
        (JobSpec("web", "true", depends_on={"web": Condition.STARTED}), "jobs.web.depends_on.web: a job cannot wait for itself"),
        (JobSpec("web", "true", depends_on={"one": "healthy"}), "condition: expected one of process_started, .* got 'healthy'"),
        (JobSpec("web", "true", depends_on={"one": Condition.HEALTHY}), "jobs.web.depends_on.one: process_healthy can never come true"),
    ],
)
async def test_what_cannot_be_is_refused_and_the_others_go_on(spec, error):
    async with Supervisor() as sup:
        one = sup.start("echo x", name="one")
        with pytest.raises(dtee_async.ConfigError, match=error):
            sup.start(spec)
        assert list(sup.jobs) == ["one"]
        assert (await one.wait()).succeeded
        assert (await sup.start("true", name="web").wait()).succeeded
        with pytest.raises(dtee_async.ConfigError, match="process_healthy can never come true: one has no probe"):
            await one.reaches("process_healthy")
    with pytest.raises(dtee_async.ConfigError, match="max_parallel: expected 0"):
        Supervisor(-1)


async def test_a_command_that_is_not_there_is_a_result_and_no_exception():
    async with Supervisor() as sup:
        job = sup.start(["nonexistent-command"])
        result = await job.wait()
        assert isinstance(result.error, dtee_async.CommandNotFoundError)
        assert (result.state, result.exit, result.status) == (State.FAILED, None, 66)
        with pytest.raises(dtee_async.DteeError, match="has not reached process_started: .*nonexistent-command"):
            await job.reaches("process_started")
        result = await sup.start("true", out_append="/nonexistent/file").wait()
        assert isinstance(result.error, dtee_async.OutputError)


async def test_a_job_is_stopped_alone_and_what_depends_on_it_before_it():
    async with Supervisor() as sup:
        events = sup.events()
        db, other = sup.start(SLEEP, name="db"), sup.start(SLEEP, name="other")
        web = sup.start(JobSpec("web", SLEEP, depends_on={"db": Condition.STARTED}))
        page = sup.start(JobSpec("page", SLEEP, depends_on={"web": Condition.STARTED}))
        later = sup.start(JobSpec("later", "true", depends_on={"page": Condition.COMPLETED}))
        await speak(db, other, page)
        result = await db.stop()
        assert (result.state, result.exit.signal) == (State.COMPLETED, signal.SIGTERM)
        assert [job.state for job in (web, page, later)] == [State.COMPLETED, State.COMPLETED, State.SKIPPED]
        assert other.state is State.RUNNING
        assert (await sup.start("echo more").wait()).succeeded
        assert await db.stop() == result
        await sup.stop()
        told = await collect(events)
        assert [event.job for event in told if isinstance(event, JobExited)] == ["page", "web", "db", "job-6", "other"]
        assert [event.job for event in told if isinstance(event, JobSkipped)] == ["later"]


async def test_what_was_removed_is_forgotten_and_its_name_is_free():
    async with Supervisor() as sup:
        db = sup.start(SLEEP, name="db")
        web = sup.start(SLEEP, name="web", depends_on={"db": "process_started"})
        await speak(db, web)
        assert (await sup.remove("db")).exit.signal == signal.SIGTERM
        assert (list(sup.jobs), web.state) == (["web"], State.COMPLETED)
        with pytest.raises(dtee_async.ConfigError, match="db"):
            sup.start("true", name="late", depends_on={"db": "process_started"})
        again = sup.start("echo again", name="db", depends_on={"web": "process_completed"})
        assert again is not db and (await again.wait()).succeeded
        with pytest.raises(KeyError):
            await sup.remove("nobody")
        await speak(sup.start(SLEEP, name="both"))
        assert len(set(await asyncio.gather(sup.remove("both"), sup.remove("both")))) == 1
        await sup.remove("web")
        await sup.remove("db")
        assert (dict(sup.jobs), await sup.wait()) == ({}, 0)


async def test_who_removes_jobs_that_have_ended_keeps_no_memory():
    async with Supervisor() as sup:
        kept = []
        for _ in range(30):
            job = sup.start("true", name="one")
            await job.wait()
            kept.append(weakref.ref(job))
            await sup.remove("one")
        del job
        gc.collect()
        assert [each() for each in kept] == [None] * 30
        assert not sup._run.services and not sup._records


async def test_a_job_is_described_by_keywords_as_in_a_jobs_file(tmp_path):
    async with Supervisor() as sup:
        sup.start("echo ready; sleep 100", name="db", health=Health("^ready$"), description="the database")
        web = sup.start(f"mkdir {tmp_path}/d && exit 1; true", name="web", depends_on={"db": "process_log_ready"}, availability=again())
        off = sup.start("true", name="off", disabled=True)
        result = await web.wait()
        assert (result.succeeded, result.attempts, off.state) == (True, 2, State.DISABLED)
        assert sup.jobs["db"].spec.description == "the database"
        with pytest.raises(dtee_async.ConfigError, match="condition: expected one of"):
            sup.start("true", depends_on={"db": "healthy"})


async def test_it_stays_open_when_no_job_is_left():
    async with Supervisor() as sup:
        for _ in range(2):
            await anyio.wait_all_tasks_blocked()
            assert (await sup.start("true").wait()).succeeded


async def test_after_a_stop_nothing_can_be_started():
    async with Supervisor() as sup:
        job = sup.start(SLEEP)
        await job.reaches("process_started")
        assert await sup.stop() == 0
        assert job.state.final
        with pytest.raises(RuntimeError, match="nothing more can be started"):
            sup.start("true", name="late")
        assert "late" not in sup.jobs
        assert await sup.stop() == 0
        assert await sup.wait() == 0
    with pytest.raises(RuntimeError, match="nothing more can be started"):
        sup.start("true")


async def test_a_job_that_ends_the_run_ends_all():
    async with Supervisor() as sup:
        other = sup.start(SLEEP)
        await speak(other)
        events = sup.events()
        sup.start(JobSpec("main", "sleep 100 >/dev/null 2>&1 & exit 4", availability=Availability(exit_on_end=True)))
        assert await sup.wait() == 4
        assert other.state.final
        assert members((await anext(events)).pid) == []  # whoever ends all wants nothing to go on


async def test_a_supervisor_that_is_not_entered_says_so():
    sup = Supervisor()
    with pytest.raises(RuntimeError, match="async with Supervisor"):
        sup.start("true")
    async with sup:
        pass
    with pytest.raises(RuntimeError, match="make another"):
        async with sup:
            pass


async def test_max_parallel_is_how_many_run_at_once(tmp_path):
    async with Supervisor(max_parallel=2) as sup:
        jobs = [sup.start(f"echo >{tmp_path}/{i}; ls {tmp_path} | wc -l; sleep 0.02; rm {tmp_path}/{i}") for i in range(8)]
        counts = [int(line.text) for line in await speak(*jobs)]
    assert max(counts) == 2


# Their output.


async def test_lines_and_writes_are_those_of_all_attempts(tmp_path):
    flag = tmp_path / "flag"
    command = f"echo out; echo err >&2; printf half; if [ -e {flag} ]; then exit 0; else touch {flag}; exit 1; fi"
    async with Supervisor() as sup:
        job = sup.start(JobSpec("job", command, availability=again()))
        lines, writes = job.lines(), job.writes()
        assert (await job.wait()).attempts == 2
        assert [(line.stream, line.text, line.complete) for line in await collect(lines)] == [
            (Stream.STDOUT, "out", True),
            (Stream.STDERR, "err", True),
            (Stream.STDOUT, "half", False),
        ] * 2
        assert [write.data for write in await collect(writes)] == [b"out\n", b"err\n", b"half"] * 2
        assert await collect(job.lines()) == []  # it has ended


async def test_a_job_that_nobody_listens_to_is_not_held_back():
    async with Supervisor() as sup:
        assert (await sup.start("head -c 10000000 /dev/zero").wait()).succeeded


@pytest.mark.parametrize("who", ["job", "supervisor"])
async def test_who_listens_and_does_not_take_does_not_hold_back_the_end(who):
    async with Supervisor() as sup:
        job = sup.start("yes", capture="pipe")
        lines = job.lines()
        await anext(lines)
        with anyio.fail_after(3):  # what it has written would be waited for 5 s
            await (job if who == "job" else sup).stop()
        assert (await job.wait()).exit.signal == signal.SIGTERM
        lines.close()


async def test_files_are_overwritten_by_the_first_attempt_and_appended_to_by_later_ones(tmp_path):
    log = tmp_path / "log"
    log.write_text("old\n")
    spec = JobSpec("job", "echo x; exit 1", outputs=(OutputFile(str(log), None, append=False),), availability=again(max_restarts=2))
    async with Supervisor() as sup:
        result = await sup.start(spec).wait()
    assert result.attempts == 3
    assert "restart" in result.reason
    assert log.read_text() == "x\n" * 3


async def test_the_options_of_run_are_those_of_start(tmp_path):
    async with Supervisor() as sup:
        job = sup.start("pwd; echo $WORD >&2", working_dir=tmp_path, environment={"WORD": "x"}, combined_append=tmp_path / "log")
        await job.wait()
        with pytest.raises(TypeError, match="unexpected nonsense"):
            sup.start("true", nonsense=1)
    assert (tmp_path / "log").read_text() == f"{tmp_path}\nx\n"


# What is told of them.


async def test_each_iterator_has_the_events_since_it_began():
    async with Supervisor() as sup:
        early = sup.events()
        await sup.start("true", name="one").wait()
        late = sup.events()
        await sup.start("true", name="two").wait()
        await sup.stop()
        assert [event.job for event in await collect(early) if isinstance(event, JobExited)] == ["one", "two"]
        assert [event.job for event in await collect(late) if isinstance(event, JobExited)] == ["two"]
        assert await collect(sup.events()) == []


async def test_an_iterator_that_does_not_keep_up_is_told_how_many_it_has_lost():
    async with Supervisor() as sup:
        slow, fast = sup.events(), sup.events()
        job = sup.start(JobSpec("job", ["nonexistent-command"], availability=again(backoff_seconds=0, backoff_max_seconds=0)))
        seen = 0
        async for event in fast:
            seen += 1
            assert not isinstance(event, EventsLost)
            if seen == EVENTS_HELD + 50:
                break
        await job.stop()
        event = await anext(slow)
        assert isinstance(event, EventsLost)
        assert event.count >= 50
        assert isinstance(await anext(slow), JobRestarting | dtee_async.JobFailedToStart)


async def test_an_iterator_that_is_left_is_detached():
    async with Supervisor() as sup:
        job = sup.start(SLEEP)
        async for event in sup.events():
            assert isinstance(event, JobStarted)
            break
        closed = sup.events()
        closed.close()
        assert await collect(closed) == []
        gc.collect()
        assert sup._queues == []
        await job.stop()


async def test_a_stop_is_told():
    async with Supervisor() as sup:
        events = sup.events()
        sup.start(SLEEP)
    assert [event for event in await collect(events) if isinstance(event, Stopping)] == [Stopping(0, now=False)]


# A jobs file.


async def test_the_jobs_of_a_file(tmp_path, monkeypatch):
    monkeypatch.setenv("OURS", "ours")
    monkeypatch.setenv("NOTIFY_SOCKET", "/of/the/host")
    path = tmp_path / "jobs.toml"
    path.write_text(
        """
        [jobs.first]
        command = "echo first $OURS $NOTIFY_SOCKET"
        out_append = "log"
        [jobs.second]
        command = "echo second"
        out_append = "log2"
        depends_on.first.condition = "process_completed_successfully"
        [jobs.never]
        command = "echo never"
        disabled = true
        """
    )
    async with Supervisor() as sup:
        names = [job.name for job in sup.load(path)]
        assert names == ["first", "second", "never"] == list(sup.jobs)
        third = sup.start(JobSpec("third", "true", depends_on={"second": Condition.COMPLETED}))
        assert await sup.wait() == 0
        assert [job.state for job in sup.jobs.values()] == [State.COMPLETED, State.COMPLETED, State.DISABLED, State.COMPLETED]
        assert third.attempts == 1
        assert ((tmp_path / "log").read_text(), (tmp_path / "log2").read_text()) == ("first ours\n", "second\n")
        with pytest.raises(dtee_async.ConfigError, match="there is a job of this name already"):
            sup.load(path)
        path.write_text("[jobs.x]\ncomand = 1\n")
        with pytest.raises(dtee_async.ConfigError, match="did you mean"):
            sup.load(path)


# More than one.


async def test_two_in_one_loop_do_not_know_of_each_other():
    async with Supervisor() as one, Supervisor() as two:
        events = two.events()
        jobs = [sup.start(SLEEP, name="same") for sup in (one, two)]
        await speak(*jobs)
        await one.stop()
        assert [job.state for job in jobs] == [State.COMPLETED, State.RUNNING]
        await two.stop()
        assert len([event for event in await collect(events) if isinstance(event, JobStarted)]) == 1


@pytest.mark.parametrize("loop_factory", [asyncio.SelectorEventLoop, None])
def test_two_in_two_threads_do_not_know_of_each_other(loop_factory):
    if loop_factory is None:
        import uvloop

        loop_factory = uvloop.Loop
    before = {number: signal.getsignal(number) for number in signal.valid_signals()}
    both_run, results = threading.Barrier(2, timeout=20), {}

    async def main(number):
        async with Supervisor() as sup:
            job = sup.start(SLEEP, name="same")
            await speak(job)
            await asyncio.to_thread(both_run.wait)
            result = await job.stop()
            results[number] = [result.exit.signal, list(sup.jobs), await sup.wait()]

    def run(number):
        with asyncio.Runner(loop_factory=loop_factory) as runner:
            runner.run(main(number))

    threads = [threading.Thread(target=run, args=[number]) for number in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results == {number: [signal.SIGTERM, ["same"], 0] for number in range(2)}
    assert {number: signal.getsignal(number) for number in signal.valid_signals()} == before


def test_an_interrupt_leaves_nothing_behind():
    """asyncio.run() cancels its main task by Ctrl-C."""
    pids = []

    async def main():
        async with Supervisor() as sup:
            job = sup.start(SLEEP)
            await speak(job)
            pids.append(job.pid)
            signal.raise_signal(signal.SIGINT)
            await sup.wait()

    with pytest.raises(KeyboardInterrupt):
        asyncio.run(main())
    assert [members(pid) for pid in pids] == [[]]


async def test_many_jobs_are_started_while_it_runs():
    async with Supervisor(max_parallel=8) as sup:
        jobs = [sup.start(["true"]) for _ in range(100)]
        assert await sup.wait() == 0
        assert all(job.state is State.COMPLETED for job in jobs)


async def test_the_handle_of_a_job_that_was_removed_touches_nobody():
    async with Supervisor() as sup:
        old = sup.start(SLEEP, name="a")
        await speak(old)
        result = await sup.remove("a")
        new = sup.start("head -c 20000000 /dev/zero", name="a")
        writes = new.writes()
        assert await old.stop() == result
        assert sum([len(write.data) async for write in writes]) == 20_000_000
        await sup.remove("a")
        assert await old.stop() == result


async def test_who_waits_is_not_held_back_by_an_iterator_of_his_own():
    async with Supervisor() as sup:
        job, other = (sup.start(f"echo ready; {MUCH}") for MUCH in ["head -c 4000000 /dev/zero"] * 2)
        kept = job.lines(), other.lines()
        await anext(kept[0])
        assert (await job.wait()).succeeded
        assert await sup.wait() == 0


async def test_a_signal_reaches_it_while_it_runs():
    async with Supervisor() as sup:
        traps = "trap 'echo again' HUP; trap 'kill $!; exit 0' USR1"
        job = sup.start(f"trap '' HUP USR1; sleep 100 & {traps}; echo ready; while :; do wait; done")
        lines = job.lines()
        await anext(lines)
        job.send_signal(signal.SIGHUP)
        assert (await anext(lines)).text == "again"
        job.send_signal(signal.SIGUSR1)
        assert (await job.wait()).succeeded
        job.send_signal(signal.SIGKILL)


async def test_a_list_of_dependencies_is_of_those_that_have_started():
    async with Supervisor() as sup:
        sup.start(SLEEP, name="db")
        web = sup.start("true", name="web", depends_on=["db"])
        assert (await web.wait()).succeeded
        assert web.spec.depends_on == {"db": Condition.STARTED}
