"""A thousand runs of ``cronty-async`` on a busy machine: never a missing or reordered byte, a wrong status or a file that is left."""

import os
import random
import signal
import subprocess
import sys
from pathlib import Path

import pytest

BIN = Path(sys.executable).parent
RUNS = int(os.environ.get("CRONTY_RUNS", "1000"))
pytestmark = pytest.mark.timeout(900)

SIGNALS = [getattr(signal, f"SIG{name}") for name in ("HUP", "INT", "KILL", "PIPE", "ALRM", "TERM", "USR1", "USR2")]  # none dumps core


@pytest.fixture
def busy():
    """Two loops that take what they get of the processor."""
    loops = [subprocess.Popen(["sh", "-c", "while :; do :; done"]) for _ in range(2)]
    yield
    for loop in loops:
        loop.kill()
        loop.wait()


def throw(dice):
    """A script, what it writes in its order, its streams, and how it ends: a status, or -N for signal N."""
    noisy = dice.random() < 0.5
    writes = [
        (2 if noisy and dice.random() < 0.3 else 1, f"{i}:{'x' * int(dice.paretovariate(0.5)) if dice.random() < 0.5 else ''}"[:3000])
        for i in range(dice.randrange(40))
    ]
    lines = [f"echo '{text}' >&{fd}" for fd, text in writes]
    ends = dice.choice([0, 0, dice.randrange(256), -dice.choice(SIGNALS)])
    lines.append(f"exit {ends}" if ends >= 0 else f"kill -{-ends} $$")
    return "\n".join(lines), "".join(f"{text}\n" for _, text in writes).encode(), {fd for fd, _ in writes}, ends


def test_a_thousand_runs_under_load_lose_nothing_and_leave_nothing(tmp_path, busy, monkeypatch):
    monkeypatch.setenv("PATH", f"{BIN}{os.pathsep}{os.environ['PATH']}")
    seed = random.randrange(1 << 30)
    print("seed", seed)
    dice = random.Random(seed)
    for run in range(RUNS):
        script, written, streams, ends = throw(dice)
        expected, status = written, ends
        if ends < 0:
            expected += f"cronty-async: sh: process terminated by signal {-ends}: {signal.strsignal(-ends)}\n".encode()
            status = ends if ends == -signal.SIGINT else 128 - ends
        elif ends or 2 in streams:
            expected += f"cronty-async: sh: exited with status {ends}\n".encode()
        else:
            expected = b""
        words = ["cronty-async", "-C", "file", "sh", "-c", script]
        done = subprocess.run(words, cwd=tmp_path, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        assert (run, done.returncode) == (run, status)
        assert done.stdout == expected, (run, script)
        assert (tmp_path / "file").read_bytes() == written, (run, script)
        assert os.listdir(os.environ["TMPDIR"]) == []
