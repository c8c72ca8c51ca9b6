"""stops.py STOPS SEED LOOP STUBBORN: random stops of trees that do not want to end (see stubborn.c), checked from outside.

The jobs run in a process of their own, which is a subreaper: ``stops.py supervise SEED LOOP STUBBORN FOLDER``. It stops some at a time
and says so on its stdout; we look for processes of theirs then, and let it go on by a line to its stdin. One line is printed for each round.
"""

import asyncio
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
from collections import Counter
from pathlib import Path

REPORT_FD = 9
LARGEST = 12
MODES = ("ordered", "pipe", "turnstile", "pty")


def supervise(seed, loop_name, stubborn, folder):
    import uvloop

    factory = {"asyncio": asyncio.SelectorEventLoop, "uvloop": uvloop.new_event_loop}[loop_name]
    with asyncio.Runner(loop_factory=factory) as runner:
        runner.run(_supervise(random.Random(seed), stubborn, folder))


async def _supervise(dice, stubborn, folder):
    from dtee_async.engine.captures import Captures
    from dtee_async.process.descendants import Family
    from dtee_async.process.orphans import OrphanReaper, become_subreaper
    from dtee_async.supervisor.stop import Census, end_strays

    assert become_subreaper()
    loop = asyncio.get_running_loop()
    captures, census = Captures(), Census(loop, Family())
    reaper = OrphanReaper(loop, census.family.is_ours)
    number = 0
    while line := await loop.run_in_executor(None, sys.stdin.readline):
        count = int(line)
        jobs = [_job(dice, captures, census, stubborn, folder, number + i) for i in range(count)]
        number += count
        left = await asyncio.gather(*(_run(dice.random() * 0.06, dice.random() < 0.2, job) for job in jobs))
        strays, left_strays = await end_strays(census)
        problems = [job.stop_problem for job in jobs if job.stop_problem]
        told = {"left": [*left, left_strays], "problems": problems, "strays": len(strays), "modes": [job.spec.capture.mode for job in jobs]}
        print(json.dumps(told | {"reaped": reaper.reaped}), flush=True)
    captures.close()
    reaper.close()


def _job(dice, captures, census, stubborn, folder, number):
    from dtee_async.core.capture import CaptureSpec
    from dtee_async.core.policy import Shutdown
    from dtee_async.core.spec import JobSpec
    from dtee_async.supervisor.job import Job, Surroundings
    from dtee_async.testing import RecordingOutput

    file = os.open(f"{folder}/pids", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    try:
        shutdown = Shutdown(
            signal=dice.choice([signal.SIGTERM, signal.SIGINT, signal.SIGKILL]),
            timeout_seconds=dice.choice([0, 0.05, 0.2]),
            command=dice.choice(["", "", "", "kill -TERM $JOB_PID"]),
            parent_only=dice.random() < 0.2,
        )
        words = [stubborn, str(dice.randrange(1 << 60)), str(1 + dice.randrange(LARGEST)), str(REPORT_FD)]
        spec = JobSpec(f"job{number}", words, capture=CaptureSpec(dice.choice(MODES)), shutdown=shutdown)
        job = Job(
            asyncio.get_running_loop(),
            captures,
            spec,
            [RecordingOutput()],
            lambda *_: None,
            surroundings=Surroundings(extra_fds={REPORT_FD: file}, census=census),
        )
        job.start()
        return job
    finally:
        os.close(file)


async def _run(after_s, impatient, job):
    await asyncio.sleep(after_s)
    if impatient:
        asyncio.get_running_loop().call_later(0.01, job.kill)
    return await job.stop()


def check(stops, seed, loop_name, stubborn):
    dice = random.Random(seed)
    with tempfile.TemporaryDirectory() as folder:
        words = [sys.executable, __file__, "supervise", str(seed), loop_name, stubborn, folder]
        with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as supervisor:
            made = Counter()
            while stops > 0:
                count = min(stops, dice.choice([1, 1, 2, 5]))
                stops -= count
                print(count, file=supervisor.stdin, flush=True)
                told = json.loads(supervisor.stdout.readline())
                pids = Path(folder, "pids").read_bytes()
                made["processes"] += len(pids) // 4
                left = [
                    process
                    for process in (_alive(int.from_bytes(pids[at : at + 4], sys.byteorder), stubborn) for at in range(0, len(pids), 4))
                    if process
                ]
                left += [process for entry in os.listdir("/proc") if entry.isdigit() and (process := _alive(int(entry), stubborn))]
                os.truncate(f"{folder}/pids", 0)
                print(count, told, left, flush=True)
                if left or any(told["left"]):
                    supervisor.stdin.close()
                    sys.exit(f"seed {seed}: left: {left}; as the supervisor knows: {told['left']}")
            supervisor.stdin.close()
        print(f"all ended: {dict(made)}")
        sys.exit(supervisor.returncode)


def _alive(pid, stubborn):
    """What it is, if it runs the program; a zombie runs nothing."""
    try:
        if os.readlink(f"/proc/{pid}/exe") == os.path.realpath(stubborn):
            return pid, Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        pass  # it has ended
    return None


if __name__ == "__main__":
    if sys.argv[1] == "supervise":
        supervise(int(sys.argv[2]), *sys.argv[3:])
    else:
        check(int(sys.argv[1]), int(sys.argv[2]), *sys.argv[3:])
