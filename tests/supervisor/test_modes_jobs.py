"""Jobs with capture modes of their own: what is told of them, what they wait for, and who ends when the supervisor is killed."""

import asyncio
import json
import os
import select
import signal
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path

import anyio
import pytest

from dtee_async.api.loops import captures_of_loop
from dtee_async.core.capture import CaptureSpec
from dtee_async.core.spec import JobSpec
from dtee_async.core.write import Stream
from dtee_async.supervisor.events import JobExited, JobLeftRunning, JobStarted
from dtee_async.supervisor.supervisor import Supervisor
from dtee_async.testing import RecordingOutput

BIN = Path(sys.executable).parent
BOUND_S = 20.0


class Outlet:
    """One output for a job that runs once."""

    def __init__(self, output):
        self.output = output

    def open(self):
        return [self.output]

    def close(self):
        pass


class Run:
    """Jobs in this process, each with a recording output, and their events."""

    def __init__(self, *specs):
        self.outputs = {spec.name: RecordingOutput() for spec in specs}
        self.events = []
        self.captures = captures_of_loop()
        jobs = [(spec, Outlet(self.outputs[spec.name])) for spec in specs]
        self.supervisor = Supervisor(asyncio.get_running_loop(), self.captures, jobs, self.events.append)

    async def end(self):
        status = await self.supervisor.run()
        self.captures.close()
        return status

    def of(self, kind):
        return {event.job: event for event in self.events if isinstance(event, kind)}


def python(source):
    return [sys.executable, "-I", "-S", "-c", source]


WRITES = "import os\nfor i in range(300):\n os.write(1 + i % 2, b'%d\\n' % i)"
WRITTEN = [(Stream.STDOUT if i % 2 == 0 else Stream.STDERR, b"%d\n" % i) for i in range(300)]


def assert_complete(output, *, exact):
    assert output.data(Stream.STDOUT) == b"".join(data for stream, data in WRITTEN if stream == Stream.STDOUT)
    assert output.data(Stream.STDERR) == b"".join(data for stream, data in WRITTEN if stream == Stream.STDERR)
    if exact:
        assert output.data() == b"".join(data for _, data in WRITTEN)


async def test_jobs_of_several_modes_run_together_and_each_start_says_what_it_promises():
    modes = {"ordered": True, "turnstile": True, "pipe": False}
    run = Run(*(JobSpec(f"{mode}{i}", python(WRITES), capture=CaptureSpec(mode)) for mode in modes for i in range(3)))
    assert await run.end() == 0
    for name, event in run.of(JobStarted).items():
        assert (event.mode, event.exact, event.reason, event.fell_back) == (name[:-1], modes[name[:-1]], "", False)
        assert_complete(run.outputs[name], exact=event.exact)
    assert len(run.of(JobStarted)) == len(run.of(JobExited)) == 9
    assert all(event.lossless and not event.writers_left for event in run.of(JobExited).values())


async def test_auto_is_ordered_and_where_output_would_be_lost_it_is_not_and_the_start_says_why():
    run = Run(JobSpec("usual", "echo usual"), JobSpec("lossy", "echo lossy >/dev/stderr", capture=CaptureSpec(no_new_privs=True)))
    assert await run.end() == 0
    usual, lossy = run.of(JobStarted)["usual"], run.of(JobStarted)["lossy"]
    assert (usual.mode, usual.exact, usual.reason) == ("ordered", True, "")
    assert (lossy.mode, lossy.exact, lossy.fell_back) == ("turnstile", True, False)
    assert "/dev/stderr" in lossy.reason
    assert run.outputs["lossy"].data(Stream.STDERR) == b"lossy\n"


async def test_a_job_can_have_more_fds_ordered():
    source = "import os\nos.dup2(1, 8); os.dup2(2, 9)\nfor i in range(300):\n os.write(8 + i % 2, b'%d\\n' % i)"
    run = Run(JobSpec("web", python(source), capture=CaptureSpec("turnstile", "1-9")))
    assert await run.end() == 0
    assert_complete(run.outputs["web"], exact=True)


def daemon(fifo):
    """A shell command that ends at once, and leaves one that writes when it is told to."""
    return f"echo now; (read -r word <{fifo}; echo $word; echo late >&2) & exit 0"


@contextmanager
def both_ends(path):
    """Of a FIFO: what is written to it stays there until somebody reads it, and nobody waits."""
    with open(os.open(path, os.O_RDWR), "w", buffering=1) as file:
        yield file


async def test_a_job_that_waits_for_its_writers_ends_with_the_last_of_them(capture_mode, fifo):
    path = fifo("go")
    run = Run(JobSpec("web", daemon(path), capture=CaptureSpec(capture_mode), wait_for="writers"))
    with both_ends(path) as go:
        async with anyio.create_task_group() as group:
            group.start_soon(run.end)
            while not run.outputs["web"].writes:
                await anyio.lowlevel.checkpoint()
            assert not run.of(JobExited)
            go.write("told\n")
    assert sorted(run.outputs["web"].data().split()) == [b"late", b"now", b"told"]
    assert not run.of(JobExited)["web"].writers_left
    assert not run.of(JobLeftRunning)


async def test_a_job_that_waits_only_for_its_exit_leaves_its_writers_alone_and_says_that_they_are_there(capture_mode, fifo):
    path = fifo("go")
    run = Run(JobSpec("web", daemon(path), capture=CaptureSpec(capture_mode), linger_s=0.02))
    with both_ends(path) as go:
        assert await run.end() == 0
        assert run.of(JobExited)["web"].writers_left
        left = [os.pidfd_open(member.pid) for member in run.of(JobLeftRunning)["web"].members]
        assert left != []
        go.write("told\n")
        assert all(select.select([pidfd], [], [], BOUND_S)[0] for pidfd in left)
    for pidfd in left:
        os.close(pidfd)
    assert run.outputs["web"].data() == b"now\n"


# The keys of the jobs file, and the end of the supervisor.


@pytest.fixture
def supervise(tmp_path, loop_name):
    """Start ``--jobs`` with this file."""
    processes = []

    def start(text, *around):
        (tmp_path / "jobs.toml").write_text(text)
        words = [*around, BIN / "dtee-async", "--jobs", "jobs.toml", "--loop", loop_name, "--log-format", "json"]
        processes.append(subprocess.Popen(words, cwd=tmp_path, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE))
        return processes[-1]

    yield start
    for process in processes:
        process.kill()
        process.communicate()


def started(process, count=None):
    """What is said of each job when it starts, by its name: of so many jobs, or of all, until the end."""
    found = {}
    while len(found) != count and (line := process.stderr.readline()):
        event = json.loads(line) if line.startswith(b"{") else {}
        if event.get("event") == "job started":
            found[event["job"]] = event
    if count is None:
        process.wait(BOUND_S)
    return found


def test_the_keys_of_the_file_are_obeyed(supervise, tmp_path, fifo, programs, random_writes):
    path = fifo("go")
    table = """
        [jobs.{name}]
        command = ["{programs}/random_writer", "7", "300", "100000"]
        capture = "{name}"
        combined_overwrite = "{name}.log"
        out_overwrite = "{name}.out"
        err_overwrite = "{name}.err"
    """
    process = supervise(
        "".join(table.format(name=name, programs=programs) for name in ("ordered", "turnstile", "pipe"))
        + f"""
        [jobs.writers]
        command = "{daemon(path)}"
        capture = "turnstile"
        watch_fds = "1-9"
        wait_for = "writers"
        combined_overwrite = "writers.log"
        [jobs.exit]
        command = "sleep 1000 & exit 3"
        capture = "pipe"
        linger_s = 0
        """
    )
    with both_ends(path) as go:
        go.write("told\n")
        said = started(process)
    assert {name: (event["capture"], event["exact"]) for name, event in said.items()} == {
        "ordered": ("ordered", True),
        "turnstile": ("turnstile", True),
        "pipe": ("pipe", False),
        "writers": ("turnstile", True),
        "exit": ("pipe", False),
    }
    os.killpg(said["exit"]["pid"], signal.SIGKILL)  # what it left
    assert process.returncode == 3
    combined, out, err = random_writes(7, 300, 100_000)
    for name in ("ordered", "turnstile", "pipe"):
        assert (tmp_path / f"{name}.out").read_bytes() == out
        assert (tmp_path / f"{name}.err").read_bytes() == err
        if name != "pipe":
            assert (tmp_path / f"{name}.log").read_bytes() == combined
    assert sorted((tmp_path / "writers.log").read_text().split()) == ["late", "now", "told"]


def test_a_turnstile_around_us_is_no_error_and_the_start_of_a_job_says_what_it_has_instead(supervise):
    process = supervise('[jobs.web]\ncommand = "echo"\ncapture = "turnstile"\n', BIN / "dtee-async", "--capture", "turnstile")
    web = started(process)["web"]
    assert (web["capture"], web["exact"], web["level"]) == ("pipe", False, "warning")
    assert web["reason"] == "no turnstile: a turnstile is around this process already"


GROUP = """
    [jobs.{name}]
    command = "trap '' PIPE; sleep 1000 & echo $$ $! >{fifo}; cat {fifo}.go; echo still here; echo still here >&2; echo $? >{fifo}"
    capture = "{mode}"
    die_with_supervisor = {dies}
"""


class Group:
    """A job that says its pids, waits, writes to where nobody may read any more, and says how that went."""

    def __init__(self, name, fifo, mode, *, dies=None):
        self.fifo = fifo(name)
        self.go = fifo(f"{name}.go")
        self.table = GROUP.format(name=name, fifo=self.fifo, mode=mode, dies=json.dumps(dies is not False))
        if dies is None:
            self.table = self.table.replace("die_with_supervisor", "# ")

    def begun(self):
        """It runs: pidfds of its processes."""
        self.pids = [int(pid) for pid in self.fifo.read_text().split()]
        self.pidfds = [os.pidfd_open(pid) for pid in self.pids]

    def ended(self, wait_s=BOUND_S):
        """Whether all of them end."""
        return all(select.select([pidfd], [], [], wait_s)[0] for pidfd in self.pidfds)

    def close(self):
        for pidfd in self.pidfds:
            if not select.select([pidfd], [], [], 0)[0]:
                signal.pidfd_send_signal(pidfd, signal.SIGKILL)
            os.close(pidfd)


@pytest.fixture
def groups(fifo):
    made = {}

    def make(mode, *, dies=None):
        name = f"{mode}{len(made)}"
        made[name] = Group(name, fifo, mode, dies=dies)
        return made[name]

    yield make
    for group in made.values():
        group.close()


def test_when_the_supervisor_is_killed_its_jobs_end_in_every_mode(supervise, groups, capture_mode):
    by_default, as_said = groups(capture_mode), groups(capture_mode, dies=True)
    process = supervise(by_default.table + as_said.table)
    started(process, 2)
    by_default.begun()
    as_said.begun()
    process.kill()
    assert by_default.ended()
    assert as_said.ended()


def test_when_the_supervisor_is_killed_a_job_that_shall_not_end_goes_on(supervise, groups, capture_mode):
    dies, lives = groups("pipe"), groups(capture_mode, dies=False)
    process = supervise(dies.table + lives.table)
    started(process, 2)
    dies.begun()
    lives.begun()
    process.kill()
    assert dies.ended()  # so whoever does that has done it
    assert not lives.ended(wait_s=0)
    lives.go.write_text("")
    assert int(lives.fifo.read_text()) != 0  # its write: nobody reads it; but it was told so, and went on


def test_a_stop_ends_the_groups_of_every_mode_and_nobody_is_left_to_end_them_again(supervise, groups):
    every = [groups(mode, dies=dies) for mode in ("ordered", "turnstile", "pipe") for dies in (True, False)]
    process = supervise("".join(group.table for group in every))
    for group in every:
        group.begun()
    process.terminate()
    assert process.wait(BOUND_S) == -signal.SIGTERM
    assert all(group.ended(wait_s=0) for group in every)
