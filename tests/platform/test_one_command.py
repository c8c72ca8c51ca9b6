"""One command on systems that have less than Linux: the tests of the command line once more, with facilities switched off."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from dtee_async.core.platforms import FACILITIES

TESTS = Path(__file__).parent.parent

ESSENTIALS = "passes_through or in_one_pipe or (replays_in_order and words0) or three_deep"

EACH = ["recvmmsg", "pidfd", "memory_folder", "proc", "timestamps,credentials", "seccomp,splice,inotify"]
"""One by one, but for those that come to the same for one command, and those that are not on its path."""

NOT_HERE = [
    "recvmmsg",  # the call that fails is named
    "receiving_that_fails",  # the same
    "through_a_slow_reader",  # long
    "shell_equality and not combined_file",  # long
    "at_any_moment_of_our_start_up",  # long
    "jobs",  # many commands
    "a_status_that_somebody_else_has_taken",  # it is taken by a thread of ours at once
    "members_are_the_living",  # it takes /proc
]


def test_none_is_forgotten():
    assert {name for names in EACH for name in names.split(",")} == FACILITIES.keys()


def run_tests(paths, selection, without):
    """The tests of these files, in a pytest of their own: without our own temporary folder, as they make theirs."""
    environment = {name: value for name, value in os.environ.items() if name not in ("TMPDIR", "PYTEST_CURRENT_TEST")}
    words = [sys.executable, "-m", "pytest", "-q", "-p", "no:randomly", "-p", "no:cacheprovider", "-k", selection]
    done = subprocess.run(
        [*words, *(TESTS / path for path in paths)], env=environment | {"DTEE_ASYNC_WITHOUT": without}, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout[-20_000:] + done.stderr


@pytest.mark.timeout(600)
@pytest.mark.parametrize("names", EACH)
def test_the_essentials_without_each(names):
    run_tests(["cli/test_single.py"], ESSENTIALS, names)


@pytest.mark.timeout(600)
@pytest.mark.parametrize(
    "paths",
    [
        ["cli/test_single.py", "process/test_process.py"],
        ["parity/test_2_normal_mode.py"],
        ["parity/test_3_cron_mode.py"],
        ["parity/test_5_sizes.py", "parity/test_7_terminal.py"],
        ["parity/test_6_shell_equality.py"],
    ],
    ids=lambda paths: paths[-1],
)
def test_everything_without_all(paths):
    run_tests(paths, " and ".join(f"not ({words})" for words in NOT_HERE), "all")
