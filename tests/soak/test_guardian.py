"""Supervisors that are killed at 200 random moments: whom they leave behind writes on, and nobody stays."""

import random
import subprocess
import sys
from pathlib import Path

import pytest

BIN = Path(sys.executable).parent
KILLS = Path(__file__).parent.parent / "programs" / "kills.py"
MOMENTS = 100
pytestmark = pytest.mark.timeout(900)


@pytest.mark.parametrize("how", ["command", "jobs"])
def test_100_kills_at_random_moments_disturb_nobody_and_leave_no_guardian(tmp_path, programs, how):
    seed = random.randrange(1 << 30)
    words = [sys.executable, KILLS, str(MOMENTS), str(seed), how, programs / "daemon_writer", BIN / "dtee-async"]
    done = subprocess.run(words, cwd=tmp_path, capture_output=True, text=True)
    print(f"seed {seed}\n{done.stdout}{done.stderr}")
    assert done.returncode == 0
    assert len(done.stdout.splitlines()) == MOMENTS
