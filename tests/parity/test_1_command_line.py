"""The contract, "Command line": a test for each of its lines, in its order."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.usefixtures("plain")

BIN = Path(sys.executable).parent
SCRIPT = "echo a; echo b >&2; echo c"
SHOWN = {"o": "a\nc\n", "e": "b\n", "c": "a\nb\nc\n"}
FILE_OPTIONS = [
    (letter.upper() if how == "overwrite" else letter, f"{long}-{how}")
    for letter, long in (("o", "out"), ("e", "err"), ("c", "combined"))
    for how in ("append", "overwrite")
]


@pytest.mark.parametrize(("letter", "long"), FILE_OPTIONS)
@pytest.mark.parametrize("spelling", ["-{0}FILE", "-{0} FILE", "--{1}=FILE", "--{1} FILE"])
def test_each_file_option_in_its_four_spellings_appends_or_overwrites(cli, tmp_path, letter, long, spelling):
    (tmp_path / "FILE").write_text("old, and longer than what is new\n")
    assert cli(*spelling.format(letter, long).split(), "sh", "-c", SCRIPT).returncode == 0
    old = "" if letter.isupper() else "old, and longer than what is new\n"
    assert (tmp_path / "FILE").read_text() == old + SHOWN[letter.lower()]


def test_each_file_option_may_be_given_any_number_of_times(cli, tmp_path):
    words = [f"-{letter}{letter}{number}" for letter, _ in FILE_OPTIONS for number in range(10)]
    assert cli(*words, "sh", "-c", SCRIPT).returncode == 0
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == {
        f"{letter}{number}": SHOWN[letter.lower()] for letter, _ in FILE_OPTIONS for number in range(10)
    }


@pytest.mark.parametrize("umask", [0o000, 0o022, 0o077])
def test_new_files_are_0666_less_the_umask(cli, tmp_path, umask):
    cli("-o", "a", "-O", "b", "true", umask=umask)
    assert {path.stat().st_mode & 0o777 for path in tmp_path.iterdir()} == {0o666 & ~umask}


@pytest.mark.parametrize("option", ["-i", "--ignore-interrupts"])
@pytest.mark.parametrize("script", ["dtee-async", "cronty-async"])
def test_i_is_known_to_both(cli, option, script):
    assert cli(script, option, "sh", "-c", "exit 3").returncode == 3


@pytest.mark.parametrize("option", ["-q", "--cron"])
def test_q_is_cron_mode(cli, option):
    assert cli(option, "echo", "x").stdout == b""


@pytest.mark.parametrize("name", ["cronty", "cronty-async"])
@pytest.mark.parametrize("target", ["cronty-async", "dtee-async"])
def test_the_cron_name_implies_cron_mode_through_any_link(tmp_path, name, target):
    link = tmp_path / name
    link.symlink_to(BIN / target)
    done = subprocess.run([link, "sh", "-c", "echo x"], capture_output=True)
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")
    done = subprocess.run([link, "false"], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (1, f"{link}: false: exited with status 1\n")
    shown = subprocess.run([link, "-h"], capture_output=True, text=True).stdout
    assert "--cron" not in shown
    assert "--ignore-interrupts" in shown


def test_another_name_does_not_imply_it(tmp_path):
    (tmp_path / "cronty2").symlink_to(BIN / "cronty-async")
    assert subprocess.run([tmp_path / "cronty2", "echo", "x"], capture_output=True).stdout == b"x\n"


@pytest.mark.parametrize("option", ["-h", "--help", "-V", "--version"])
@pytest.mark.parametrize("script", ["dtee-async", "cronty-async"])
def test_help_and_version_go_to_stdout_with_status_0(cli, option, script):
    done = cli(script, option)
    assert done.returncode == 0
    assert done.stdout
    assert done.stderr == b""


def test_help_that_cannot_be_written_is_a_failure_and_a_closed_pipe_a_quiet_end(cli):
    with open("/dev/full", "wb") as full:
        done = cli("-h", stdout=full, stderr=subprocess.PIPE)
    assert (done.returncode, done.stderr) == (74, b"dtee-async: stdout: write: No space left on device\n")
    reader, writer = os.pipe()
    os.close(reader)
    done = cli("-h", stdout=writer, stderr=subprocess.PIPE)
    os.close(writer)
    assert (done.returncode, done.stderr) == (-13, b"")


@pytest.mark.parametrize("words", [["-x"], ["--help"], ["-o", "f"], ["--"], ["-q"]])
@pytest.mark.parametrize("end", [[], ["--"]])
def test_the_first_word_that_is_no_option_or_two_dashes_end_the_options(cli, tmp_path, words, end):
    assert cli(*end, "printf", "%s.", *words).stdout.decode() == "".join(f"{word}." for word in (words if words != ["--"] else ["--"]))
    assert list(tmp_path.iterdir()) == []


def test_after_two_dashes_an_option_is_a_command(cli):
    assert cli("--", "-h").stderr == b"dtee-async: -h: No such file or directory\n"
    assert cli("cronty-async", "-").stderr.splitlines()[0] == b"cronty-async: -: No such file or directory"


@pytest.mark.parametrize("script", ["dtee-async", "cronty-async"])
def test_an_empty_string_is_a_command_that_cannot_be_executed(cli, script):
    done = cli(script, "")
    assert done.returncode == 66
    assert done.stderr.decode().splitlines()[0] == f"{script}: : No such file or directory"


@pytest.mark.parametrize("word", ["--hel", "--out-app=f", "--ignore", "--vers", "--combined=f"])
def test_long_options_are_not_abbreviated(cli, word):
    assert cli(word, "true").returncode == 64


@pytest.mark.parametrize("word", ["--out-append=", "--help=1"])
def test_nothing_after_the_sign_and_an_argument_too_many_are_usage_errors(cli, word):
    done = cli(word, "true")
    assert (done.returncode, done.stdout) == (64, b"")


def test_an_empty_file_name_is_a_file_that_cannot_be_opened(cli):
    done = cli("-o", "", "echo", "x")
    assert (done.returncode, done.stdout, done.stderr) == (73, b"", b"dtee-async: : No such file or directory\n")


def test_the_programs_name_is_what_was_typed_as_far_as_it_can_be_known(cli, tmp_path):
    assert cli("--nope").stderr.startswith(b"dtee-async: ")
    (tmp_path / "tool").symlink_to(BIN / "dtee-async")
    done = subprocess.run(["./tool", "--nope"], cwd=tmp_path, capture_output=True)
    assert done.stderr.startswith(b"./tool: ")


@pytest.mark.parametrize("words", [[], ["--"], ["-i"], ["-o", "f"]])
def test_no_command_shows_the_usage_on_stdout_with_64(cli, tmp_path, words):
    done = cli(*words)
    assert (done.returncode, done.stdout, done.stderr) == (64, cli("-h").stdout, b"")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("words", [["-z"], ["--zzz"], ["-o"], ["--out-append"], ["-iz"]])
@pytest.mark.parametrize("script", ["dtee-async", "cronty-async"])
def test_an_unknown_option_or_a_missing_argument_is_said_with_a_line_that_points_to_h(cli, words, script):
    done = cli(script, *words)
    first, second = done.stderr.decode().splitlines()
    assert first.startswith(f"{script}: ")
    assert f"{script} -h" in second
    assert (done.returncode, done.stdout) == (64, b"")
