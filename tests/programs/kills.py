"""Kills supervisors at random moments, and sees that nobody whom they leave behind is disturbed, and that nobody stays.

    kills.py COUNT SEED HOW DAEMON_WRITER DTEE_ASYNC

HOW is ``command`` or ``jobs``. Run in a folder for our files. The status is 0 when all is as it
should be; else the last line of stderr says what was wrong.
"""

import ctypes
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

PR_SET_CHILD_SUBREAPER = 36
BOUND_S = 30.0
START_S = 0.3
BUSY_S = 0.03
JOB = '[jobs.web]\nquiet = true\ncommand = ["{writer}", "{folder}"]\ncapture = "turnstile"\ndie_with_supervisor = false\n'


def main(count, seed, how, writer, program):
    # What a supervisor leaves behind becomes ours: so we see when it ends.
    ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    dice = random.Random(f"{seed} {how}")
    for i in range(int(count)):
        folder = Path.cwd() / str(i)
        folder.mkdir()
        one_moment(dice, folder, how, writer, program)


def one_moment(dice, folder, how, writer, program):
    supervisor = start(folder, how, writer, program)
    if dice.random() < 0.5:
        moment_s = dice.uniform(0, START_S)
    else:
        eventually(lambda: lines(folder) > 0, "the daemon writes nothing")
        moment_s = dice.uniform(0, BUSY_S)
    time.sleep(moment_s)  # the random moment
    supervisor.kill()
    supervisor.wait()
    left = processes()
    if any(writer in words for words in left):
        goes_on(folder)
        assert len(guardians()) == 1, f"one guardian is to be there: {processes()}"
    (folder / "stop").touch()
    eventually(all_ended, lambda: f"somebody stays: {processes()}")
    said = (folder / "said").read_text().splitlines() if (folder / "said").exists() else []
    assert all(line.endswith(": ok") for line in said), said
    print(f"{how}: {moment_s * 1000:.1f} ms, left {len(left)}, {sorted(said)}, {lines(folder)} lines", flush=True)


def start(folder, how, writer, program):
    words = [program, "--capture", "turnstile", writer, folder]
    if how == "jobs":
        (folder / "jobs.toml").write_text(JOB.format(writer=writer, folder=folder))
        words = [program, "--jobs", folder / "jobs.toml"]
    return subprocess.Popen(words, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def goes_on(folder):
    """Its log grows, long after the supervisor is gone."""
    eventually(lambda: lines(folder) > 0, "the daemon does not begin")
    before = lines(folder)
    eventually(lambda: lines(folder) > before + 100, lambda: f"the daemon hangs: {processes()}")


def lines(folder):
    log = folder / "log"
    return log.read_bytes().count(b"\n") if log.exists() else 0


def eventually(condition, failure):
    until_s = time.monotonic() + BOUND_S
    while not condition():
        assert time.monotonic() < until_s, failure if isinstance(failure, str) else failure()


def processes():
    """The command line of each child of ours, zombies left out."""
    return [words for words in map(command_line, children()) if words]


def guardians():
    return [words for words in processes() if any(word.endswith("guardian_program.py") for word in words)]


def children():
    return [int(pid) for task in Path("/proc/self/task").glob("*/children") for pid in task.read_text().split()]


def command_line(pid):
    return [word.decode() for word in Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0") if word]


def all_ended():
    """Reap whoever has ended; whether nobody is left."""
    try:
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass
    except ChildProcessError:
        return True
    return False


if __name__ == "__main__":
    signal.alarm(1200)
    try:
        main(*sys.argv[1:])
    except BaseException:
        for pid in children():
            os.kill(pid, signal.SIGKILL)
        raise
