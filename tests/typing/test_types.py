"""What type checkers say of the public interface: strict code needs no cast and no ignore, and every public type is known."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

import dtee_async

BIN = Path(sys.executable).parent
SAMPLE = Path(__file__).parent / "sample.py"


def test_mypy_is_strict_about_a_sample_of_use(tmp_path):
    words = [sys.executable, "-m", "mypy", "--strict", "--warn-unreachable", "--cache-dir", tmp_path, SAMPLE]
    done = subprocess.run(words, cwd=tmp_path, stdout=subprocess.PIPE, text=True)
    assert (done.returncode, done.stdout) == (0, "Success: no issues found in 1 source file\n")


@pytest.mark.timeout(300)
def test_every_public_type_is_known():
    words = [BIN / "pyright", "--verifytypes", "dtee_async", "--ignoreexternal", "--outputjson", "--pythonpath", sys.executable]
    done = subprocess.run(words, stdout=subprocess.PIPE, text=True)
    said = json.loads(done.stdout)["typeCompleteness"]
    incomplete = [symbol["name"] for symbol in said["symbols"] if symbol["isExported"] and not symbol["isTypeKnown"]]
    assert (said["completenessScore"], incomplete) == (1, [])
    assert {symbol["name"].rpartition(".")[2] for symbol in said["symbols"]} > set(dtee_async.__all__)
