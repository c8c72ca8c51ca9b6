"""Orphans become ours and are reaped; whom we have started ourselves is never reaped for somebody else."""

import subprocess
import sys

PRELUDE = """
import asyncio, os, signal, sys, uvloop
from dtee_async.api.loops import captures_of_loop
from dtee_async.core.contracts import ChildFds
from dtee_async.process.child import reap
from dtee_async.process.orphans import OrphanReaper, become_subreaper, reap_orphans
from dtee_async.process.proctable import children, look_at
from dtee_async.process.spawn import SpawnPlan, spawn

NULL = os.open(os.devnull, os.O_RDWR)

def start(script):
    return spawn(SpawnPlan(["sh", "-c", script]), ChildFds(NULL, NULL))

def wait_for(child):
    os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)

def run(main):
    factory = uvloop.new_event_loop if sys.argv[1] == "uvloop" else asyncio.SelectorEventLoop
    with asyncio.Runner(loop_factory=factory) as runner:
        runner.run(main())
"""


def run(source, *words):
    done = subprocess.run([sys.executable, "-c", PRELUDE + source, *words], capture_output=True, text=True, timeout=50)
    assert done.stderr == ""
    return done.stdout.split()


def test_with_no_child_there_is_nothing_to_be_done():
    assert run("print(reap_orphans(lambda pid: False))") == ["0"]


def test_an_orphan_becomes_ours_and_is_reaped_and_our_own_children_keep_their_status():
    assert run("""
assert become_subreaper()
child = start("(sleep 0.01 & ) ; (sleep 100 & ); exit 3")
wait_for(child)
orphans = [pid for pid in children() if pid != child.pid]
print(len(orphans))
shortest = min(orphans)
os.waitid(os.P_PID, shortest, os.WEXITED | os.WNOWAIT)
print(reap_orphans({child.pid}.__contains__), reap_orphans({child.pid}.__contains__))
print(reap(child).returncode)
(last,) = children()
os.kill(last, signal.SIGKILL)
os.waitid(os.P_PID, last, os.WEXITED | os.WNOWAIT)
print(reap_orphans(lambda pid: False), children())
""") == ["2", "1", "0", "3", "1", "[]"]


def test_orphans_are_reaped_when_they_end_on_both_loops_and_the_handler_is_put_back(loop_name):
    assert run(
        """
async def main():
    assert become_subreaper()
    loop = asyncio.get_running_loop()
    before = signal.getsignal(signal.SIGCHLD)
    child = start("for i in 1 2 3 4 5; do (sleep 100 & ); done; exit 4")
    reaper = OrphanReaper(loop, {child.pid}.__contains__)
    wait_for(child)
    for pid in {*children()} - {child.pid}:
        os.kill(pid, signal.SIGKILL)
    while reaper.reaped < 5:
        await asyncio.sleep(0.001)
    print(children() == [child.pid], reap(child).returncode)
    reaper.close()
    print(signal.getsignal(signal.SIGCHLD) == before)
run(main)
""",
        loop_name,
    ) == ["True", "4", "True"]


STRAY = """
from dtee_async.core.spec import JobSpec
from dtee_async.process.descendants import Family
from dtee_async.supervisor.job import Job, Surroundings
from dtee_async.supervisor.stop import Census, end_strays
from dtee_async.testing import RecordingOutput

async def main():
    assert become_subreaper()
    loop, captures, output = asyncio.get_running_loop(), captures_of_loop(), RecordingOutput()
    census = Census(loop, Family())
    reaper = OrphanReaper(loop, census.family.is_ours)
    helper = start("exec sleep 100")
    census.family.add(helper.pid)
    guardian = captures.guardian
    guardian.prepare()
    (its_pid,) = {*children()} - {helper.pid}
    command = ["setsid", "-f", "env", "-i", "/bin/sh", "-c", "echo $$; (sleep 100); :"]
    job = Job(loop, captures, JobSpec("job", command), [output], print, surroundings=Surroundings(census=census))
    job.start()
    await job.wait()
    stray = int(output.data())
    assert await job.stop() == []
    print(os.path.exists(f"/proc/{stray}"))
    found, left = await end_strays(census)
    print(sorted(member.name for member in found), min(member.pid for member in found) == stray, left)
    print([look_at(pid).zombie for pid in (its_pid, helper.pid)])
    guardian.close()
    while children() != [helper.pid]:
        await asyncio.sleep(0.001)
    census.family.discard(helper.pid)
    os.kill(helper.pid, signal.SIGKILL)
    reap(helper)
    reaper.close()
run(main)
"""


def test_a_stray_is_found_and_ended_and_who_is_ours_and_the_guardian_are_not(loop_name):
    assert run(STRAY, loop_name) == ["True", "['sh',", "'sleep']", "True", "[]", "[False,", "False]"]
