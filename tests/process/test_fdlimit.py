"""Our own limit of open fds is raised, and the commands get what we were given."""

import subprocess
import sys

import pytest

PRELUDE = """
import asyncio, os, resource, sys
from dtee_async.api.loops import captures_of_loop
from dtee_async.core.capture import CaptureSpec
from dtee_async.core.contracts import ChildFds
from dtee_async.core.spec import JobSpec
from dtee_async.process.child import reap
from dtee_async.process.fdlimit import FdLimit
from dtee_async.process.spawn import SpawnPlan, spawn
from dtee_async.supervisor.job import Job, Surroundings
from dtee_async.testing import RecordingOutput

_, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
resource.setrlimit(resource.RLIMIT_NOFILE, (64, hard))
limit = FdLimit()
"""

JOBS = """
async def main():
    loop, captures, outputs, jobs = asyncio.get_running_loop(), captures_of_loop(), [], []
    reader, writer = os.pipe()
    for i in range(200):
        outputs.append(RecordingOutput())
        mode = sys.argv[1]
        command = "ulimit -Sn; ulimit -Hn; read line <&9"
        spec = JobSpec(f"job{i}", command, capture=CaptureSpec(mode))
        if sys.argv[3] == "fds":
            surroundings = Surroundings(fd_limit=limit, extra_fds={9: reader})
        else:
            spec = JobSpec(f"job{i}", "ulimit -Sn; ulimit -Hn; exec sleep 100", capture=CaptureSpec(mode))
            surroundings = Surroundings(fd_limit=limit)
        jobs.append(Job(loop, captures, spec, [outputs[-1]], print, surroundings=surroundings))
        jobs[-1].start()
    assert len(os.listdir("/proc/self/fd")) > 400
    assert resource.getrlimit(resource.RLIMIT_NOFILE) == (hard, hard)
    while not all(output.data().count(b"\\n") >= 2 for output in outputs):
        await asyncio.sleep(0.01)
    os.close(writer)
    await asyncio.gather(*(job.stop(0.1 if sys.argv[3] == "fds" else 10) for job in jobs))
    print({output.data() for output in outputs} == {b"64\\n%d\\n" % hard})
    os.close(reader)
    captures.close()

if sys.argv[2] == "uvloop":
    import uvloop
    asyncio.Runner(loop_factory=uvloop.new_event_loop).run(main())
else:
    asyncio.run(main())
limit.close()
print(resource.getrlimit(resource.RLIMIT_NOFILE) == (64, hard))
"""


def run(source, *words):
    done = subprocess.run([sys.executable, "-c", PRELUDE + source, *words], capture_output=True, text=True, timeout=50)
    assert done.stderr == ""
    return done.stdout.split()


@pytest.mark.parametrize(("mode", "how"), [("ordered", "plain"), ("turnstile", "plain"), ("ordered", "fds")])
def test_200_jobs_at_once_get_the_limit_that_we_were_given(mode, loop_name, how):
    assert run(JOBS, mode, loop_name, how) == ["True", "True"]


def test_low_numbers_that_somebody_has_taken_come_back_when_he_lets_go():
    assert run("""
def limit_of_child():
    reader, writer = os.pipe()
    child = spawn(SpawnPlan(["sh", "-c", "ulimit -n"], fd_limit=limit), ChildFds(writer, writer))
    os.close(writer)
    with open(reader) as file:
        text = file.read().strip()
    assert reap(child).returncode == 0
    return text

with limit.lowered():
    taken = [os.open(os.devnull, os.O_RDONLY) for _ in range(12)]
many = [os.open(os.devnull, os.O_RDONLY) for _ in range(100)]
print(limit_of_child())
for fd in taken:
    os.close(fd)
print(limit_of_child())
print(limit.given, sum(fd < 64 for fd in limit._kept))
""") == ["64", "64", "64", "16"]


def test_where_it_is_as_high_as_can_be_nothing_is_done():
    assert run("""
limit.close()
resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))
limit = FdLimit()
with limit.lowered():
    print(resource.getrlimit(resource.RLIMIT_NOFILE))
print(limit._kept)
""") == ["(64,", "64)", "[]"]
