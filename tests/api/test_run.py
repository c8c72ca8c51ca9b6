"""``await dtee_async.run(...)`` as an author of an async application uses it."""

import asyncio
import dataclasses
import gc
import inspect
import os
import pickle
import signal
import subprocess
import sys
import tempfile
import threading
import time
import weakref
from pathlib import Path

import anyio
import pytest

import dtee_async
from dtee_async import JobSpec, Stream
from dtee_async.api.specs import JobOptions, Options, RunOptions
from dtee_async.core.outputs import OUTPUT_KEYS
from dtee_async.core.policy import Shutdown
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


async def test_outputs_that_are_the_same_file_do_not_overwrite_each_other(tmp_path):
    file = str(tmp_path / "file")
    assert (await dtee_async.run("echo 123; echo 4 >&2", out_overwrite=file, err_overwrite=file)).returncode == 0
    assert sorted(Path(file).read_text().split()) == ["123", "4"]


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
        with pytest.raises(asyncio.CancelledError) as caught:
            await task
        assert (caught.value.result.combined, caught.value.result.signal) == (b"one\ntwo\n", signal.SIGTERM)
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


async def test_a_timeout_is_an_error_that_carries_what_was_written():
    with pytest.raises(dtee_async.CommandTimeoutError, match=r"not done in 0\.3 s") as caught:
        await dtee_async.run("echo out; echo err >&2; sleep 100 & trap '' TERM; while :; do sleep 1; done", timeout_s=0.3, grace_s=0.1)
    error = caught.value
    assert isinstance(error, TimeoutError)
    assert (error.timeout_s, error.result.combined, error.result.signal) == (0.3, b"out\nerr\n", signal.SIGKILL)
    assert error.result.duration_s >= 0.3
    assert members(error.result.writes[0].pid) == []


async def test_what_is_done_in_time_is_no_error():
    assert (await dtee_async.run("echo x", timeout_s=50)).stdout == b"x\n"


@pytest.mark.parametrize(
    ("keep", "limit_bytes", "expected"),
    [("head", 5, b"1\n2\n3"), ("tail", 5, b"9\n10\n"), ("head", 0, b""), ("tail", 0, b""), ("head", 21, None), ("tail", 100, None)],
)
async def test_a_result_is_as_large_as_was_asked_for(keep, limit_bytes, expected):
    result = await dtee_async.run("for i in 1 2 3 4 5 6 7 8 9 10; do echo $i; done", limit_bytes=limit_bytes, keep=keep)
    everything = b"".join(b"%d\n" % n for n in range(1, 11))
    if expected is None:
        assert (result.combined, result.truncated) == (everything, False)
        return
    assert (result.combined, result.dropped_bytes, result.truncated) == (expected, len(everything) - limit_bytes, True)
    assert [write.whole for write in result.writes].count(False) <= 1


BOUNDED = """
import asyncio, dtee_async
result = dtee_async.run_sync("dd if=/dev/zero bs=65536 count=6400 status=none", limit_bytes=1 << 20, keep="KEEP")
assert (len(result.combined), result.dropped_bytes) == (1 << 20, (400 << 20) - (1 << 20))
print(next(int(line.split()[1]) * 1024 for line in open("/proc/self/status") if line.startswith("VmHWM")))
"""


@pytest.mark.parametrize("keep", ["head", "tail"])
def test_the_memory_of_a_bounded_result_is_bounded(keep):
    done = subprocess.run([sys.executable, "-c", BOUNDED.replace("KEEP", keep)], stdout=subprocess.PIPE, check=True)
    assert int(done.stdout) < 40 << 20


async def test_a_job_spec_is_run_as_it_says(tmp_path):
    spec = dtee_async.JobSpec("job", "echo x; exit 7", working_dir=str(tmp_path), success_exit_codes=(0, 7))
    result = await dtee_async.run(spec, check=True)
    assert (result.returncode, result.stdout) == (7, b"x\n")
    with pytest.raises(dtee_async.CommandFailedError):
        await dtee_async.run(dataclasses.replace(spec, success_exit_codes=(0,)), check=True)
    with pytest.raises(TypeError, match=r"a JobSpec says it all: unexpected name; use dataclasses.replace\(\)"):
        await dtee_async.run(spec, name="other")


async def test_a_job_spec_says_how_it_is_ended():
    spec = dtee_async.JobSpec("job", "trap 'echo int; exit' INT; while :; do sleep 0.05; done", shutdown=Shutdown(signal.SIGINT))
    with pytest.raises(dtee_async.CommandTimeoutError) as caught:
        await dtee_async.run(spec, timeout_s=0.3)
    assert caught.value.result.stdout == b"int\n"
    stubborn = dtee_async.JobSpec("job", "trap '' TERM; while :; do sleep 1; done", shutdown=Shutdown(timeout_seconds=0.1))
    begin = time.monotonic()
    with pytest.raises(dtee_async.CommandTimeoutError):
        await dtee_async.run(stubborn, timeout_s=0.1)
    assert time.monotonic() - begin < 5


async def test_an_option_that_does_not_exist_is_refused():
    with pytest.raises(TypeError, match="unexpected cwd; expected one of capture, .*, working_dir"):
        await dtee_async.run("true", cwd="/")


async def test_check_shows_the_last_lines_of_stderr_only():
    with pytest.raises(dtee_async.CommandFailedError) as caught:
        await dtee_async.run("seq 9 >&2; echo out; kill -KILL $$", check=True)
    assert str(caught.value).endswith("terminated by signal 9: Killed\n5\n6\n7\n8\n9")


def test_run_sync_is_run_for_scripts(tmp_path):
    result = dtee_async.run_sync("cat; echo err >&2; pwd", stdin=b"in\n", check=True, timeout_s=50, working_dir=tmp_path)
    assert (result.stdout, result.stderr) == (b"in\n" + os.fsencode(tmp_path) + b"\n", b"err\n")
    with pytest.raises(dtee_async.CommandFailedError):
        dtee_async.run_sync("exit 1", check=True)
    with pytest.raises(dtee_async.CommandTimeoutError):
        dtee_async.run_sync("trap '' TERM; while :; do sleep 1; done", timeout_s=0.1, grace_s=0.1)


async def test_run_sync_says_that_a_loop_runs_already():
    with pytest.raises(RuntimeError, match="await dtee_async.run"):
        dtee_async.run_sync("true")


async def test_many_at_once_with_much_output_are_complete():
    places = asyncio.Semaphore(20)
    code = "for i in range(16): os.write(1, bytes([n, i]) * 32768)"

    async def one(number):
        async with places:
            return await dtee_async.run([sys.executable, "-ISc", f"import os; n = {number}; exec({code!r})"])

    results = await asyncio.gather(*map(one, range(200)))
    for number, result in enumerate(results):
        assert result.stdout == b"".join(bytes([number, i]) * 32768 for i in range(16))


def test_run_sync_takes_what_run_takes():
    names = {name for name, each in inspect.signature(dtee_async.run).parameters.items() if each.kind is each.KEYWORD_ONLY}
    assert names | Options.__optional_keys__ == RunOptions.__optional_keys__


def test_what_can_be_said_in_options_is_what_a_job_spec_can_say():
    of_outputs_and_capture = {*OUTPUT_KEYS, "watch_fds", "no_new_privs", "stderr_apart"}
    names = JobOptions.__optional_keys__ - of_outputs_and_capture
    assert names == {field.name for field in dataclasses.fields(JobSpec)} - {"command", "outputs", "quiet"}


async def test_the_options_are_in_the_spec():
    options = {
        "shutdown": dtee_async.Shutdown(signal=signal.SIGINT),
        "privileges": dtee_async.Privileges(umask=0o77),
        "success_exit_codes": [0, 3],
        "die_with_supervisor": True,
    }
    async with dtee_async.open_job("umask; exit 3", limit_bytes=100, **options) as job:
        result = await job.wait()
        assert (job.state, result.stdout) == (dtee_async.State.COMPLETED, b"0077\n")
        for name, value in options.items():
            assert getattr(job.spec, name) == (tuple(value) if isinstance(value, list) else value)


async def test_a_result_is_freed_when_it_is_dropped_and_does_not_wait_for_the_garbage_collector():
    gc.disable()
    try:
        result = await dtee_async.run("echo x")
        writes = weakref.ref(result.writes)
        del result
        assert writes() is None
        async with dtee_async.open_job("echo x", limit_bytes=100) as job:
            writes = weakref.ref((await job.wait()).writes)
        del job
        assert writes() is None
    finally:
        gc.enable()


@pytest.mark.parametrize(
    ("command", "options", "error"),
    [
        (["cat"], {"stdin": "pipe"}, r"use open_job\(\)"),
        ("true", {"environment": {"PATH": None}}, "environment.PATH: expected strings, got 'PATH' and None"),
        ("true", {"environment": {"A=B": "c"}}, "environment.A=B: not a name that an environment variable can have"),
        (b"true", {}, "command: expected a string for the shell, or a list of strings and paths, got b'true'"),
        (["echo", b"a"], {}, "command: expected a string"),
        (Path("/bin/true"), {}, "command: expected a string"),
        ("true", {"shutdown": 5}, "shutdown: expected a Shutdown, got 5"),
        ("true", {"privileges": "root"}, "privileges: expected a Privileges, got 'root'"),
        ("true", {"success_exit_codes": ["x"]}, "success_exit_codes: expected numbers from 0 to 255, got 'x'"),
        ("true", {"linger_s": "x"}, "linger_s: expected a number of seconds, 0 or more, got 'x'"),
        ("true", {"grace_s": -1}, "grace_s: expected a number of seconds, 0 or more, got -1"),
        ("true", {"timeout_s": "1"}, "timeout_s: expected a number of seconds"),
    ],
)
async def test_what_makes_no_sense_is_refused_before_anything_is_started(command, options, error):
    with pytest.raises(dtee_async.ConfigError, match=error):
        await dtee_async.run(command, **options)


async def test_who_is_cancelled_twice_has_the_result_nevertheless():
    async def one():
        await dtee_async.run(f"trap '' TERM; echo x; echo >{fifo}; while :; do sleep 1; done", grace_s=60)

    with tempfile.TemporaryDirectory() as folder:
        fifo = f"{folder}/fifo"
        os.mkfifo(fifo)
        reader = os.open(fifo, os.O_RDONLY | os.O_NONBLOCK)
        task = asyncio.create_task(one())
        await anyio.wait_readable(reader)
        os.close(reader)
    task.cancel()
    await asyncio.sleep(0.05)
    task.cancel()
    with pytest.raises(asyncio.CancelledError) as caught:
        await task
    assert (caught.value.result.combined, caught.value.result.signal) == (b"x\n", signal.SIGKILL)


async def test_an_output_that_fails_does_not_take_the_result_along():
    with pytest.raises(dtee_async.OutputError) as caught:
        await dtee_async.run("echo a; exit 3", out_append="/dev/full", check=True)
    assert (caught.value.result.stdout, caught.value.result.returncode) == (b"a\n", 3)


async def test_writers_that_are_left_are_seen_without_waiting_for_them():
    assert (await dtee_async.run("echo a; sleep 1 &", linger_s=0)).writers_left


async def test_results_and_errors_can_be_pickled():
    with pytest.raises(dtee_async.CommandFailedError) as caught:
        await dtee_async.run("echo a; echo b >&2; exit 3", check=True)
    error = pickle.loads(pickle.dumps(caught.value))
    assert (type(error), str(error)) == (dtee_async.CommandFailedError, str(caught.value))
    assert list(error.result.writes) == list(caught.value.result.writes)
    assert repr(error.result.writes) == "<Captured: 2 writes, 4 bytes>"
    with pytest.raises(dtee_async.CommandTimeoutError) as caught:
        await dtee_async.run("sleep 100", timeout_s=0.1)
    error = pickle.loads(pickle.dumps(caught.value))
    assert (error.timeout_s, str(error), error.result.signal) == (0.1, str(caught.value), signal.SIGTERM)
    with pytest.raises(dtee_async.CommandNotFoundError) as caught:
        await dtee_async.run(["nonexistent-command"])
    assert str(pickle.loads(pickle.dumps(caught.value))) == str(caught.value)
