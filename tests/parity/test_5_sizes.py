"""The contract, "Sizes it is known to handle": writes and streams of each of them."""

from __future__ import annotations

import io
import select
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.usefixtures("plain")

BIN = Path(sys.executable).parent
SIZES = sorted({1, select.PIPE_BUF, io.DEFAULT_BUFFER_SIZE, 8191, 8193, 4095, 4097, 65536})


@pytest.mark.parametrize("name", ["dtee-async", "cronty-async"])
@pytest.mark.parametrize("size", SIZES)
def test_alternating_writes_of_this_size_are_what_the_shell_gives(cli, tmp_path, programs, size, name):
    command = f"{programs}/writes 500 {size} 2"
    expected = subprocess.run(["sh", "-c", f"{command} 2>&1"], stdout=subprocess.PIPE, check=True).stdout
    done = cli(name, "-C", "c", *command.split(), stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    ending = f"cronty-async: {programs}/writes: exited with status 0\n".encode() if name == "cronty-async" else b""
    assert done.returncode == 0
    assert (done.stdout == expected + ending, (tmp_path / "c").read_bytes() == expected) == (True, True)


def test_alternating_sizes_are_what_the_shell_gives(cli, tmp_path, programs):
    script = f"for i in 1 2 3 4 5; do {programs}/writes 20 {min(SIZES[2:6])} 2; {programs}/writes 20 {max(SIZES)} 3; done"
    expected = subprocess.run(["sh", "-c", script], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=True).stdout
    assert cli("-C", "c", "sh", "-c", script).returncode == 0
    assert (tmp_path / "c").read_bytes() == expected


def test_sendfile_to_stdout(cli, tmp_path):
    data = bytes(range(256)) * 5000
    (tmp_path / "data").write_bytes(data)
    script = f"""
import os
fd, at = os.open('data', os.O_RDONLY), 0
while at < {len(data)}:
    at += os.sendfile(1, fd, at, {len(data)} - at)
"""
    done = cli("-o", "copy", sys.executable, "-c", script)
    assert done.returncode == 0
    assert (done.stdout == data, (tmp_path / "copy").read_bytes() == data) == (True, True)


@pytest.mark.parametrize("name", ["dtee-async", "cronty-async"])
@pytest.mark.parametrize("megabytes", [1, 32, 256])
def test_a_stream_of_this_size_through_a_slow_reader(tmp_path, megabytes, name):
    """cmp(1), which reads in small pieces and compares, is much slower than head(1) writes."""
    command = f"seq 99999999 | head -c {megabytes << 20}"
    dtee = f"{BIN / name} -o file sh -c '{command}; exit 3'"
    script = f"({dtee}; echo $? >status) | cmp - <({command}) && cmp file <({command})"
    done = subprocess.run(["bash", "-c", script], cwd=tmp_path, capture_output=True)
    (tmp_path / "file").unlink()
    assert (done.returncode, done.stdout, (tmp_path / "status").read_text()) == (0, b"", "3\n")
