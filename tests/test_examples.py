"""The example jobs, run as `make demo` runs them, in a copy: what they leave in their files is exactly right."""

import os
import runpy
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
BIN = str(Path(sys.executable).parent)
ENVIRONMENT = {name: value for name, value in os.environ.items() if name != "FORCE_COLOR"} | {
    "PATH": f"{BIN}:{os.environ['PATH']}",
    "LC_ALL": "C.UTF-8",
}
DEPLOY_STATUS = 3

needs_compiler = pytest.mark.skipif(shutil.which("cc") is None, reason="needs a C compiler")


def copy_of(folder, tmp_path):
    def not_made_by_a_run(path, names):
        return [name for name in names if name == "__pycache__" or (Path(path).name == "out" and name != ".gitignore")]

    shutil.copytree(ROOT / folder, tmp_path / folder, ignore=not_made_by_a_run)


def run(*command, folder):
    return subprocess.run(
        command, cwd=folder, env=ENVIRONMENT, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=50, check=False
    )


@pytest.fixture(scope="module")
def ran(tmp_path_factory):
    """The finished run and the folder of its output files."""
    folder = tmp_path_factory.mktemp("repository")
    copy_of("examples", folder)
    return run("dtee-async", "--jobs", "examples/jobs.toml", folder=folder), folder / "examples" / "out"


@needs_compiler
def test_the_status_is_that_of_the_job_that_fails(ran):
    done, out = ran
    assert done.returncode == DEPLOY_STATUS, done.stderr
    assert (out / "deploy.err").read_text() == "deploy: the server is full\n"
    assert done.stderr.count("[info     ] job exited ") == 5
    assert f"status={DEPLOY_STATUS}" in next(line for line in done.stderr.splitlines() if "[warning  ] job exited" in line)


def test_letters_are_apart_and_in_order(ran):
    _, out = ran
    example = runpy.run_path(str(ROOT / "examples" / "letters.py"))
    lines = example["TEXT"].strip().splitlines()
    text = "".join(line.ljust(example["WIDTH"]) + "\n" for line in lines)
    assert max(map(len, lines)) <= example["WIDTH"]
    assert (out / "letters.log").read_text() == text
    assert (out / "letters.out").read_text() == text[0::2]
    assert (out / "letters.err").read_text() == text[1::2]


@needs_compiler
def test_the_compiler_warns_and_the_program_runs(ran):
    _, out = ran
    log = (out / "compile.log").read_text()
    for warning in ("unused parameter", "-Wformat", "-Wsign-compare", "unused variable"):
        assert warning in log
    assert log.splitlines()[-1].endswith("bytes")


def test_the_tests_report_on_stderr_and_the_code_prints_to_stdout(ran):
    _, out = ran
    assert (out / "tests.err").read_text().endswith("OK (skipped=1)\n")
    assert (out / "tests.out").read_text().count(" -> ") == 4
    log = (out / "tests.log").read_text()
    assert len(log) == len((out / "tests.out").read_text()) + len((out / "tests.err").read_text())
    begun, printed, ended = (log.index(part) for part in ("test_ends (", "'edges'", "ok\n"))
    assert begun < printed < ended


def test_the_archive_holds_what_it_said(ran):
    _, out = ran
    with tarfile.open(out / "library.tar.gz") as archive:
        held = [name.name for name in archive]
    said = (out / "archive.log").read_text().splitlines()
    assert [name.rstrip("/") for name in said] == held
    assert "json/decoder.py" in held


def test_the_unfinished_line_is_shown_and_goes_on(ran):
    done, out = ran
    shown = [line for line in done.stdout.splitlines() if line.startswith("setup")]
    assert shown == ["setup   | Overwrite the settings of example.org? [y/N] ", "setup   : no answer: nothing is overwritten"]
    assert (out / "setup.log").read_text() == "Overwrite the settings of example.org? [y/N] no answer: nothing is overwritten\n"


def test_the_quiet_job_says_nothing_and_writes_its_file(ran):
    done, out = ran
    assert "nightly" not in done.stdout + done.stderr
    assert (out / "nightly.log").read_text() == "users: checked\norders: checked\ninvoices: checked\n"


def test_numbers_as_a_job_at_full_speed(tmp_path):
    copy_of("examples", tmp_path)
    job = """
        [jobs.{0}]
        command = ["python3", "numbers.py"]
        out_append = "out/{0}.out"
        err_overwrite = "out/{0}.err"
        combined_overwrite = "out/{0}.log"
    """
    names = ["one", "two", "three", "four"]
    (tmp_path / "examples" / "numbers.toml").write_text("".join(map(job.format, names)))
    done = run("dtee-async", "--jobs", "examples/numbers.toml", folder=tmp_path)
    assert done.returncode == 0, done.stderr
    for name in names:
        files = [f"examples/out/{name}.{end}" for end in ("out", "err", "log")]
        checked = run("python3", "examples/numbers.py", *files, folder=tmp_path)
        assert checked.returncode == 0, checked.stdout


def test_numbers_notices_what_is_wrong(tmp_path):
    copy_of("examples", tmp_path)
    for name in ("out", "err", "log"):
        (tmp_path / name).write_text("line 1\n")
    checked = run("python3", "examples/numbers.py", "out", "err", "log", folder=tmp_path)
    assert checked.returncode == 1
    assert checked.stdout.count("WRONG") == 3


def test_tee_copies_its_input_to_stdout_and_a_file(tmp_path):
    data = os.urandom(3_000_000)
    (tmp_path / "data").write_bytes(data)
    command = f"cat data | {sys.executable} {ROOT}/examples/tee.py copy | cat >out"
    done = run("sh", "-c", command, folder=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert (tmp_path / "copy").read_bytes() == (tmp_path / "out").read_bytes() == data


def test_tee_says_what_failed(tmp_path):
    done = run("sh", "-c", f"echo x | {sys.executable} {ROOT}/examples/tee.py /dev/full", folder=tmp_path)
    assert (done.returncode, done.stdout, done.stderr) == (1, "x\n", "tee.py: No space left on device\n")


@needs_compiler
def test_the_demo_succeeds_and_says_where_to_look(tmp_path):
    copy_of("examples", tmp_path)
    copy_of("scripts", tmp_path)
    done = run("scripts/demo", BIN, folder=tmp_path)
    assert done.returncode == 0, done.stderr
    assert f"The exit status is {DEPLOY_STATUS}" in done.stdout
    assert "Every letter of this text was written by a call of its own," in done.stdout
    assert "exactly the 20,000 lines" in done.stdout
    assert "WRONG" not in done.stdout
