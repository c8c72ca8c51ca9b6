"""Random stops of trees that do not want to end: nobody of theirs is left, checked from outside; the soak does it more often."""

import os
import random
import subprocess
import sys
from pathlib import Path

import pytest

STOPS = Path(__file__).parent.parent / "programs" / "stops.py"
COUNT = 10


@pytest.mark.parametrize("hops", ["", "1"], ids=["", "hops"])
def test_after_a_stop_no_process_of_a_stubborn_tree_exists(programs, loop_name, hops):
    seed = random.randrange(1 << 30)
    words = [sys.executable, STOPS, str(COUNT), str(seed), loop_name, programs / "stubborn"]
    done = subprocess.run(words, env=os.environ | {"HOPS": hops}, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, ""), f"seed {seed}\n{done.stdout}{done.stderr}"
    assert done.stdout.splitlines()[-1].startswith("all ended:")
