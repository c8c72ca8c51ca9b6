"""200 random stops of trees that fork, double-fork, lead sessions, ignore signals and hold stdout: nobody of theirs is left."""

import os
import random
import subprocess
import sys
from pathlib import Path

import pytest

STOPS = Path(__file__).parent.parent / "programs" / "stops.py"
COUNT = int(os.environ.get("STOPS", "200"))
pytestmark = pytest.mark.timeout(900)


@pytest.mark.parametrize("hops", ["", "1"], ids=["", "hops"])
def test_after_200_stops_no_process_of_a_stubborn_tree_exists(programs, loop_name, hops):
    seed = random.randrange(1 << 30)
    words = [sys.executable, STOPS, str(COUNT), str(seed), loop_name, programs / "stubborn"]
    done = subprocess.run(words, env=os.environ | {"HOPS": hops}, capture_output=True, text=True)
    print(f"seed {seed}\n{done.stdout}{done.stderr}")
    assert (done.returncode, done.stderr) == (0, "")
