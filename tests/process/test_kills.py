"""Supervisors that are killed at random moments; the soak does it more often."""

import random
import subprocess
import sys
from pathlib import Path

import pytest

BIN = Path(sys.executable).parent
KILLS = Path(__file__).parent.parent / "programs" / "kills.py"
MOMENTS = 10


@pytest.mark.parametrize("how", ["command", "jobs"])
def test_who_is_left_behind_by_a_killed_supervisor_goes_on_and_in_the_end_nobody_stays(tmp_path, programs, how):
    seed = random.randrange(1 << 30)
    words = [sys.executable, KILLS, str(MOMENTS), str(seed), how, programs / "daemon_writer", BIN / "dtee-async"]
    done = subprocess.run(words, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, f"seed {seed}\n{done.stdout}{done.stderr}"
    assert len(done.stdout.splitlines()) == MOMENTS
