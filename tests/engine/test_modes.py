"""Commands in each capture mode: which mode it is, that nothing is lost, that the order is exact where it is promised, and what is said where it is not."""

import asyncio
import importlib.util
import json
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import anyio
import pytest

import dtee_async
from dtee_async.core.capture import CaptureSpec
from dtee_async.core.write import Stream, Write
from dtee_async.engine.captures import FEW, Captures
from dtee_async.engine.command import Command
from dtee_async.engine.selectloop import SelectLoop
from dtee_async.process.spawn import SpawnPlan
from dtee_async.testing import RecordingOutput
from dtee_async.transport.pipe import LARGE_PIPE_BYTES

EXACTNESS = Path(__file__).parents[1] / "programs" / "exactness.py"
SPEC = importlib.util.spec_from_file_location("exactness", EXACTNESS)
exactness = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(exactness)

OUT, ERR = Stream
RUNS = 5
ALL = [(mode, name) for mode, scenarios in exactness.SCENARIOS.items() for name in scenarios]


@pytest.fixture
def captures():
    captures = Captures()
    yield captures
    captures.close()


def children():
    return [int(pid) for task in Path("/proc/self/task").glob("*/children") for pid in task.read_text().split()]


# The records.

GOOD = [Write(OUT, b"0:1::x\n", 0, 0), Write(ERR, b"1:2:13:xxxxx\n2:2:", 0, 0), Write(ERR, b":\n", 0, 0), Write(OUT, b"3:1:\n", 0, 0)]
SWAPPED = [GOOD[1], GOOD[2], GOOD[0], GOOD[3]]
CUT = [GOOD[0], Write(ERR, b"1:2:13:xxxx\n2:2::\n", 0, 0), GOOD[3]]
MIXED = [GOOD[0], GOOD[1], GOOD[3], GOOD[2]]
ELSEWHERE = [GOOD[0], Write(OUT, b"1:2:13:xxxxx\n", 0, 0), Write(ERR, b"2:2::\n", 0, 0), GOOD[3]]
TWICE = [*GOOD, GOOD[3]]
RUBBISH = [*GOOD, Write(ERR, b"Killed\n", 0, 0)]


def test_what_is_right_is_seen_to_be():
    assert exactness.problem(GOOD, {b"": 4}) is None
    assert exactness.problem(exactness.in_order(SWAPPED), {b"": 4}) is None
    tracks = [Write(OUT, b"a0:1:\nb0:1:\n", 0, 0), Write(ERR, b"b1:2:\n", 0, 0), Write(ERR, b"a1:2:\n", 0, 0)]
    assert exactness.problem(tracks, {b"a": 2, b"b": 2}) is None


@pytest.mark.parametrize("writes", [SWAPPED, CUT, MIXED, ELSEWHERE, TWICE, RUBBISH, GOOD[:3], []])
def test_what_is_wrong_is_seen_to_be(writes):
    assert exactness.problem(writes, {b"": 4}) is not None


# Every way to write.


@pytest.mark.parametrize(("mode", "name"), ALL)
def test_everything_arrives_and_in_the_exact_order_where_that_is_promised(captures, programs, mode, name):
    for seed in range(2 if "node" in name else RUNS):
        used, problem = exactness.run(captures, mode, name, programs, seed)
        assert (seed, problem) == (seed, None)
        assert mode in (used, "auto")


def test_the_pipes_of_mode_pipe_are_no_way_to_know_the_order(captures):
    """Else the exactness of the other modes would prove nothing."""

    def wait(pid):  # on one processor each write may happen to be read before the next
        os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)

    command = "echo 0:1::x; echo 1:2::x >&2; echo 2:1::x; echo 3:2::x >&2"
    _, writes, _ = exactness.capture(captures, "pipe", ["sh", "-c", command], wait)
    assert exactness.problem(writes, {b"": 4}) is not None
    assert exactness.problem(exactness.in_order(writes), {b"": 4}) is None


@pytest.mark.root
@pytest.mark.parametrize("mode", exactness.SCENARIOS)
def test_the_same_holds_for_a_user_without_privileges(programs, mode):
    done = subprocess.run([sys.executable, EXACTNESS, mode, "2", programs, "65534"], capture_output=True, timeout=55)
    assert (done.returncode, done.stderr) == (0, b"")
    counted = json.loads(done.stdout)
    assert {name: found[1:3] for name, found in counted.items()} == {name: [0, []] for name in counted}
    assert counted.keys() >= exactness.SCENARIOS[mode].keys() - {"python"}
    assert {used for *_, modes in counted.values() for used in modes} == {"pipe" if mode == "auto" else mode}


# Which mode it is.


def opened(captures, argv, *, environment=None, **wishes):
    """What is opened for a command, closed again: the mode, why, and whether it is another one than was asked for."""
    transport, reason, fell_back = captures.open(CaptureSpec(**wishes), SpawnPlan(argv, environment=environment))
    transport.close()
    return transport.mode, reason, fell_back


@pytest.mark.parametrize("mode", ["ordered", "turnstile", "pipe", "pty"])
def test_the_mode_that_is_asked_for_is_the_one_that_is_had(captures, mode):
    assert opened(captures, ["node"], mode=mode) == (mode, "", False)


def test_auto_is_ordered_unless_output_would_be_lost(captures):
    assert opened(captures, ["sh", "-c", "echo a"]) == ("ordered", "", False)
    mode, reason, fell_back = opened(captures, ["node", "-e", ""])
    assert mode in ("turnstile", "pipe")
    assert reason.startswith("runs node")
    assert not fell_back


@pytest.mark.root
def test_auto_is_the_turnstile_where_that_takes_nothing_away(captures):
    assert opened(captures, ["node", "-e", ""])[0] == "turnstile"
    _, writes, _ = exactness.capture(captures, "auto", ["sh", "-c", "grep NoNewPrivs /proc/self/status >/dev/stderr"])
    assert [(write.stream, write.data) for write in writes] == [(ERR, b"NoNewPrivs:\t0\n")]


def test_within_a_turnstile_there_is_none_and_that_is_said(cli):
    inner = ["dtee-async", "--capture", "turnstile", "sh", "-c", "echo a; echo b >&2"]
    done = cli("-v", "--capture", "turnstile", *inner)
    assert (done.returncode, done.stdout) == (0, b"a\n")
    reason = b"(no turnstile: a turnstile is around this process already)"
    assert sorted(done.stderr.splitlines()) == [
        b"b",
        b"dtee-async: capture mode pipe, order by time of reading, bytes moved by tee(2) and splice(2) " + reason,
        b"dtee-async: capture mode turnstile, exact order",
    ]


def test_only_few_captures_at_once_have_large_pipes(captures):
    def capacity():
        transport, _, _ = captures.open(CaptureSpec("pipe"), SpawnPlan(["true"]))
        open_ones.append(transport)
        return transport._pipes.capacity_bytes[OUT]

    open_ones = []
    sizes = [capacity() for _ in range(FEW + 2)]
    assert sizes[:FEW] == [LARGE_PIPE_BYTES] * FEW
    assert max(sizes[FEW:]) < LARGE_PIPE_BYTES
    open_ones[0].close()
    open_ones[FEW].close()
    assert capacity() == LARGE_PIPE_BYTES
    assert capacity() < LARGE_PIPE_BYTES
    for transport in open_ones:
        transport.close()


def test_many_at_once_are_exact_with_small_pipes_too(captures, programs):
    """More than get large pipes, all on one loop, with one receive buffer and one guardian."""
    outputs, done = [], []
    with SelectLoop() as loop:
        for seed in range(FEW + 4):
            plan = SpawnPlan([f"{programs}/mixed_writer", str(seed), "60", "500000", "wvpfstV"])
            transport = captures.open(CaptureSpec("turnstile"), plan).transport
            outputs.append(RecordingOutput())
            Command(loop, transport, [outputs[-1]], lambda *_: None, done.append, linger_s=0).start(plan)
        loop.run_until(lambda: len(done) == len(outputs))
    assert [outcome.exit.returncode for outcome in done] == [0] * len(outputs)
    assert [exactness.problem(output.writes, {b"": 60}) for output in outputs] == [None] * len(outputs)


# The life of a command.


@pytest.mark.parametrize("mode", ["turnstile", "pipe"])
def test_an_output_that_is_full_is_waited_for(captures, programs, mode):
    class Slow(RecordingOutput):
        def write(self, batch):
            super().write(batch)
            self.flow.pause()
            loops[0].call_later(0.0001, self.flow.resume)

    plan = SpawnPlan([f"{programs}/mixed_writer", "5", "60", "1000000", "wvpfstV"])
    loops, done, output = [], [], Slow()
    with SelectLoop() as loop:
        loops.append(loop)
        capturing = captures.open(CaptureSpec(mode), plan)
        Command(loop, capturing.transport, [output], lambda *_: None, done.append, linger_s=0).start(plan)
        loop.run_until(lambda: bool(done))
    assert done[0].exit.returncode == 0
    writes = output.writes if mode == "turnstile" else exactness.in_order(output.writes)
    assert exactness.problem(writes, {b"": 60}) is None


@pytest.mark.parametrize("mode", ["ordered", "turnstile", "pipe"])
def test_a_writer_that_is_left_behind_is_listened_to(captures, mode):
    plan = SpawnPlan(["bash", "-c", "exec > >(sed 's/^/> /'); echo one; echo two; exit 3"])
    done, output = [], RecordingOutput()
    with SelectLoop() as loop:
        transport = captures.open(CaptureSpec(mode), plan).transport
        Command(loop, transport, [output], lambda *_: None, done.append, linger_s=30).start(plan)
        loop.run_until(lambda: bool(done))
    assert output.data() == b"> one\n> two\n"
    assert (done[0].exit.returncode, done[0].writers_left) == (3, False)


def test_what_is_left_behind_a_turnstile_goes_on_without_us(captures, tmp_path, fifo):
    go, over = fifo("go"), fifo("over")
    script = '(trap "" PIPE; read -r line <"$0"; echo lost; exec >"$2"; echo kept; echo over >"$1") & echo now'
    outcome, writes, _ = exactness.capture(captures, "turnstile", ["bash", "-c", script, str(go), str(over), str(tmp_path / "file")])
    assert b"".join(write.data for write in writes) == b"now\n"
    assert children() == []  # the guardian, which goes on, is no child of ours
    go.write_text("\n")
    assert over.read_text() == "over\n"
    assert (tmp_path / "file").read_text() == "kept\n"


@pytest.mark.parametrize("mode", ["ordered", "turnstile", "pipe"])
def test_a_command_that_is_not_there_leaves_nothing(captures, mode):
    plan = SpawnPlan(["/nonexistent/command"])
    done, output = [], RecordingOutput()
    with SelectLoop() as loop:
        command = Command(loop, captures.open(CaptureSpec(mode), plan).transport, [output], lambda *_: None, done.append, linger_s=0)
        with pytest.raises(dtee_async.CommandNotFoundError):
            command.start(plan)
        command.end_unstarted(66, b"not found\n")
    assert output.data(ERR) == b"not found\n"
    assert children() == []


# In an application, on both loops.

MODES = {"auto": "ordered", "ordered": "ordered", "turnstile": "turnstile", "pipe": "pipe"}


@pytest.mark.parametrize("mode", MODES)
async def test_the_result_says_how_it_was_captured(mode):
    result = await dtee_async.run("echo a; echo b >&2; echo c; exit 3", capture=mode)
    assert (result.mode, result.exact, result.lossless) == (MODES[mode], mode != "pipe", True)
    assert (result.returncode, result.stdout, result.stderr) == (3, b"a\nc\n", b"b\n")
    if result.exact:
        assert result.combined == b"a\nb\nc\n"
        assert len({write.pid for write in result.writes}) == 1
        assert all(write.whole for write in result.writes)
    assert not result.writers_left


async def test_many_behind_turnstiles_at_once(programs):
    results = {}

    async def one(seed):
        results[seed] = await dtee_async.run([programs / "mixed_writer", str(seed), "40", "300000", "wvpfstV"], capture="turnstile")

    async with anyio.create_task_group() as group:
        for seed in range(20):
            group.start_soon(one, seed)
    assert {seed: exactness.problem(result.writes, {b"": 40}) for seed, result in results.items()} == dict.fromkeys(range(20))
    assert {result.mode for result in results.values()} == {"turnstile"}


async def test_a_wider_range_of_fds_can_be_watched():
    result = await dtee_async.run([sys.executable, "-I", "-S", "-c", COPIES], capture="turnstile", watch_fds="1-9")
    assert result.combined == b"".join(b"%d\n" % i for i in range(100))


COPIES = """
import os
os.dup2(1, 7)
for i in range(100):
    os.write((2, 7)[i % 2], b"%d\\n" % i)
"""


@pytest.mark.parametrize("mode", ["turnstile", "pipe"])
async def test_cancelling_leaves_nothing_and_the_files_have_what_was_written(mode, tmp_path, fifo):
    log, ready = tmp_path / "log", fifo("ready")
    reader = os.open(ready, os.O_RDONLY | os.O_NONBLOCK)
    command = f"echo one; echo two >&2; (while :; do echo x >/dev/null; done) & echo y >{ready}; wait"
    async with anyio.create_task_group() as group:
        group.start_soon(lambda: dtee_async.run(command, capture=mode, combined_append=log))
        await anyio.wait_readable(reader)
        group.cancel_scope.cancel()
    os.close(reader)
    assert log.read_text() == "one\ntwo\n"
    assert children() == []


@pytest.mark.parametrize("watch_fds", ["1-2", "1-9"])
async def test_a_command_that_is_not_there_is_one_clear_error_behind_a_turnstile(watch_fds):
    with pytest.raises(dtee_async.CommandNotFoundError):
        await dtee_async.run(["nonexistent-command"], capture="turnstile", watch_fds=watch_fds)
    assert children() == []


def test_two_loops_in_two_threads_have_turnstiles_of_their_own(programs):
    found = {}

    def work(seed):
        words = [programs / "mixed_writer", str(seed), "60", "300000", "wvpfstV"]
        found[seed] = exactness.problem(asyncio.run(dtee_async.run(words, capture="turnstile")).writes, {b"": 60})

    threads = [threading.Thread(target=work, args=(seed,)) for seed in (1, 2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == {1: None, 2: None}


async def test_a_command_that_is_killed_behind_a_turnstile_is_known_to_be():
    result = await dtee_async.run("echo a; kill -KILL $$", capture="turnstile")
    assert (result.signal, result.combined) == (signal.SIGKILL, b"a\n")


# Node.js, which writes nothing to a datagram socket.


@pytest.mark.parametrize("mode", ["auto", "turnstile", "pipe"])
async def test_a_node_command_says_everything(mode):
    result = await dtee_async.run(["node", "-e", exactness.NODE % (2000, 40, 40)], capture=mode)
    assert result.returncode == 0
    assert result.lossless
    assert result.mode != "ordered"
    assert exactness.problem(result.writes if result.exact else exactness.in_order(result.writes), {b"": 2000}) is None
    assert result.reason.startswith("runs node" if mode == "auto" else "")


async def test_npm_says_its_version():
    result = await dtee_async.run(["npm", "--version"])
    assert result.returncode == 0
    assert result.stdout.strip().replace(b".", b"").isdigit()
    assert result.lossless


@pytest.fixture
def hidden_node(tmp_path):
    """A script that does not look as if it ran node; node says something and stays for a while."""
    script = tmp_path / "script.sh"
    script.write_text("#!/bin/sh\necho begin\nn=no\n${n}de -e 'console.log(\"lost\"); setTimeout(() => {}, 500)' $1\necho end\n")
    script.chmod(0o755)
    return script


async def test_node_within_a_script_is_noticed(hidden_node):
    result = await dtee_async.run([hidden_node])
    assert (result.returncode, result.mode) == (0, "ordered")
    assert not result.lossless
    assert "runs node, which writes nothing to a datagram socket" in result.reason
    assert result.stdout == b"begin\nend\n"  # it is lost indeed


async def test_node_that_writes_elsewhere_is_not_named(tmp_path):
    script = "n=no; ${n}de -e 'console.log(\"kept\"); setTimeout(() => {}, 500)' >file 2>&1; echo end"
    result = await dtee_async.run(script, working_dir=tmp_path)
    assert (result.mode, result.lossless, result.reason) == ("ordered", True, "")
    assert (tmp_path / "file").read_text() == "kept\n"


async def test_only_the_command_that_runs_node_is_named(hidden_node):
    results = {}

    async def one(name, command):
        results[name] = await dtee_async.run(command)

    async with anyio.create_task_group() as group:
        group.start_soon(one, "node", [hidden_node])
        group.start_soon(one, "other", "echo x; sleep 0.5")
    assert {name: result.lossless for name, result in results.items()} == {"node": False, "other": True}


LARGE = "print('x' * 8_000_000)"


async def test_a_write_that_is_too_large_is_noticed_and_in_other_modes_it_arrives():
    result = await dtee_async.run([sys.executable, "-c", LARGE])
    assert (result.mode, result.lossless) == ("ordered", False)
    assert result.returncode != 0
    assert result.reason == "a write was too large for a datagram: the command says so itself"
    for mode in ("turnstile", "pipe"):
        result = await dtee_async.run([sys.executable, "-c", LARGE], capture=mode)
        assert (result.returncode, len(result.stdout), result.lossless) == (0, 8_000_001, True)


def test_jobs_name_what_may_be_lost_and_what_helps(cli, tmp_path, hidden_node, loop_name):
    (tmp_path / "jobs.toml").write_text(f"""
        [jobs.script]
        command = ["./script.sh"]
        [jobs.large]
        command = [{json.dumps(sys.executable)}, "-c", {json.dumps(LARGE)}]
        [jobs.good]
        command = "echo x"
        [jobs.helped]
        command = ["./script.sh"]
        capture = "turnstile"
    """)
    done = cli("--jobs", "jobs.toml", "--loop", loop_name, "--log-format", "json")
    log = [json.loads(line) for line in done.stderr.splitlines() if line.startswith(b"{")]
    lost = {event["job"]: event for event in log if event["event"] == "output may be lost"}
    assert lost.keys() == {"script", "large"}
    assert "runs node, which writes nothing to a datagram socket" in lost["script"]["reason"]
    assert lost["large"]["reason"] == "a write was too large for a datagram: the command says so itself"
    assert lost["script"]["remedy"] == '[jobs.script] capture = "turnstile"'
    exited = {event["job"]: event.get("lossless", True) for event in log if event["event"] == "job exited"}
    assert exited == {"script": False, "large": False, "good": True, "helped": True}
    assert sorted(line for line in done.stdout.splitlines() if line.startswith(b"helped")) == [
        b"helped | " + word for word in (b"begin", b"end", b"lost")
    ]
