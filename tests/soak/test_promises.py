"""The promises that take long to show: run by ``make soak``."""

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

BIN = Path(sys.executable).parent
pytestmark = pytest.mark.timeout(900)


def supervise(tmp_path, text, loop_name, **options):
    (tmp_path / "jobs.toml").write_text(text)
    words = [BIN / "dtee-async", "--jobs", "jobs.toml", "--loop", loop_name]
    return subprocess.Popen(words, cwd=tmp_path, **({"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL} | options))


def test_20_jobs_of_5000_writes_are_exact_in_20_runs(tmp_path, programs, random_writes, loop_name):
    table = '[jobs.j{i}]\ncommand = ["{p}/random_writer", "{i}", "5000", "100000"]\n'
    table += 'combined_overwrite = "{i}.c"\nout_overwrite = "{i}.o"\nerr_overwrite = "{i}.e"\n'
    expected = {i: random_writes(i, 5000, 100_000) for i in range(20)}
    for _ in range(20):
        assert supervise(tmp_path, "".join(table.format(i=i, p=programs) for i in expected), loop_name).wait() == 0
        for i, files in expected.items():
            assert tuple((tmp_path / f"{i}.{kind}").read_bytes() for kind in "coe") == files


def rss_bytes(pid):
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS"):
            return int(line.split()[1]) * 1024
    raise AssertionError("no VmRSS")


@pytest.fixture
def frozen_folder(tmp_path):
    """A folder on a filesystem of its own, and a function that freezes it."""
    image, folder = tmp_path / "image", tmp_path / "mount"
    folder.mkdir()
    subprocess.run(["truncate", "-s", "64M", image], check=True)
    subprocess.run(["mkfs.ext4", "-q", image], check=True)
    subprocess.run(["mount", "-o", "loop", image, folder], check=True)
    frozen = []

    def freeze():
        subprocess.run(["fsfreeze", "--freeze", folder], check=True)
        frozen.append(True)

    yield folder, freeze
    if frozen:
        subprocess.run(["fsfreeze", "--unfreeze", folder], check=True)
    while subprocess.run(["umount", folder], stderr=subprocess.DEVNULL).returncode:  # until the writer is through
        pass


WRITES, SIZE = 20_000, 64


def nine_good(tmp_path, programs):
    table = '[jobs.good{i}]\nquiet = true\ncommand = ["{p}/writes", "{n}", "{s}", "0"]\ncombined_overwrite = "good{i}.c"\nout_overwrite = "good{i}.o"\n'
    return "".join(table.format(i=i, p=programs, n=WRITES, s=SIZE) for i in range(9))


def seconds_until_nine_are_complete(tmp_path, since):
    files = [tmp_path / f"good{i}.{kind}" for i in range(9) for kind in "co"]
    while True:
        if all(file.exists() and file.stat().st_size == WRITES * SIZE for file in files):
            return time.monotonic() - since
        assert time.monotonic() < since + 60, "nine jobs wait for the tenth"


def stuck_job(how, tmp_path, programs, size):
    job = f'[jobs.stuck]\ncommand = ["{programs}/writes", "{200_000_000 // size}", "{size}", "0"]\n'
    if how == "stdout":
        return job
    if how == "frozen":
        return job + 'quiet = true\nout_overwrite = "mount/file"\n'
    os.mkfifo(tmp_path / "fifo")
    return job + 'quiet = true\nout_append = "fifo"\n'


@pytest.mark.parametrize("size", [4096, 1 << 20])
@pytest.mark.parametrize("how", ["fifo", "opened fifo", "stdout", pytest.param("frozen", marks=pytest.mark.root)])
def test_one_stuck_output_holds_nobody_else_and_no_memory_and_not_the_end(how, size, tmp_path, programs, loop_name, request):
    freeze = request.getfixturevalue("frozen_folder")[1] if how == "frozen" else lambda: None
    start = time.monotonic()
    child = supervise(tmp_path, nine_good(tmp_path, programs), loop_name)
    alone_s = seconds_until_nine_are_complete(tmp_path, start)
    assert child.wait() == 0
    for file in tmp_path.glob("good*"):
        file.unlink()
    job = stuck_job(how, tmp_path, programs, size)
    reader = os.open(tmp_path / "fifo", os.O_RDONLY | os.O_NONBLOCK) if how == "opened fifo" else None
    start = time.monotonic()
    child = supervise(tmp_path, nine_good(tmp_path, programs) + job, loop_name, stdout=subprocess.PIPE)
    if how == "frozen":
        while not (tmp_path / "mount" / "file").exists():
            pass
        freeze()
    while not (tmp_path / "good0.c").exists():  # everything is imported and made by now
        pass
    before = rss_bytes(child.pid)
    with_stuck_s = seconds_until_nine_are_complete(tmp_path, start)
    time.sleep(2)  # time for memory to grow, if it would
    growth = rss_bytes(child.pid) - before
    start = time.monotonic()
    child.send_signal(signal.SIGINT)
    assert child.wait(30) == -signal.SIGINT
    end_s = time.monotonic() - start
    child.stdout.close()
    if reader is not None:
        os.close(reader)
    print(
        f"{how}, {size} bytes: alone {alone_s:.2f} s, with a stuck one {with_stuck_s:.2f} s, growth {growth >> 10} KiB, end {end_s:.2f} s"
    )
    assert growth < 10 << 20
    assert with_stuck_s < 3 * alone_s + 1
    assert end_s < 10.5


def environment_has(tag):
    found = []
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            try:
                if tag in Path(f"/proc/{entry}/environ").read_bytes():
                    found.append(int(entry))
            except OSError:
                continue
    return found


def test_100_kills_at_random_moments_leave_no_process_and_only_prefixes(tmp_path, programs, random_writes, loop_name):
    seed = random.randrange(1 << 30)
    print("seed", seed)
    dice = random.Random(seed)
    tag = f"DTEE_ASYNC_SOAK={dice.random()}"
    name, value = tag.split("=")
    command = "{p}/random_writer {i} 4000 20000; sleep 1000 & exec sleep 1001"
    table = '[jobs.j{i}]\ncommand = "%s"\nenvironment = {{ %s = "%s" }}\ncombined_overwrite = "{i}.c"\n' % (command, name, value)
    expected = [random_writes(i, 4000, 20_000)[0] for i in range(10)]
    text = "".join(table.format(i=i, p=programs) for i in range(10))
    for _ in range(50):  # on each loop
        for file in tmp_path.glob("*.c"):
            file.unlink()
        child = supervise(tmp_path, text, loop_name)
        time.sleep(dice.random() * 1.6)  # the random moment
        child.send_signal(signal.SIGTERM)
        assert child.wait(30) == -signal.SIGTERM
        assert environment_has(tag.encode()) == []
        for file in tmp_path.glob("*.c"):
            data = file.read_bytes()
            assert data == expected[int(file.stem)][: len(data)]


def test_a_thousand_runs_leave_nothing(tmp_path):
    for i in range(1000):
        script = f"echo {i}; echo err >&2; exit {i % 3}"
        done = subprocess.run([BIN / "dtee-async", "-C", "all", "sh", "-c", script], cwd=tmp_path, capture_output=True)
        assert (done.returncode, done.stdout, done.stderr) == (i % 3, b"%d\n" % i, b"err\n")
        assert (tmp_path / "all").read_bytes() == b"%d\nerr\n" % i
    assert os.listdir(os.environ["TMPDIR"]) == []
