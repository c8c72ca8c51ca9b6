"""The jobs file: one clear error for whatever is wrong in it, and exactly the jobs that it says."""

from __future__ import annotations

import copy
import datetime as dt
import json
import math
import os

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from dtee_async.config import jobsfile
from dtee_async.config.tables import JobTable
from dtee_async.core.capture import CaptureSpec
from dtee_async.core.outputs import OUTPUT_KEYS, OutputFile
from dtee_async.core.spec import JobSpec
from dtee_async.core.write import Stream
from dtee_async.errors import ConfigError

WEB = '[jobs.web]\ncommand = "true"\n'
DB_TABLE = '[jobs.db]\ncommand = "true"\n'


def quoted(text):
    """A TOML basic string."""
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")


@pytest.fixture
def load(tmp_path):
    """Write a jobs file into tmp_path and load it."""

    def write_and_load(content, environment=None):
        path = tmp_path / "jobs.toml"
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return list(jobsfile.load([str(path)], environment or {}).jobs)

    return write_and_load


@pytest.fixture
def wrong(load, tmp_path):
    """What is said about a jobs file after its name."""

    def load_and_fail(content):
        with pytest.raises(ConfigError) as caught:
            load(content)
        name, text = f"{tmp_path}/jobs.toml: ", str(caught.value)
        assert text.startswith(name)
        return text.removeprefix(name)

    return load_and_fail


# What is wrong with the file as a whole.


def test_no_such_file(tmp_path):
    with pytest.raises(ConfigError, match=r"^/.*/nope\.toml: No such file or directory$"):
        jobsfile.load([f"{tmp_path}/nope.toml"], {})


def test_a_directory_is_no_jobs_file(tmp_path):
    with pytest.raises(ConfigError) as caught:
        jobsfile.load([str(tmp_path)], {})
    assert str(caught.value) == f"{tmp_path}: Is a directory"


def test_a_byte_order_mark_is_no_part_of_the_text(load):
    assert [spec.name for spec in load("\ufeff" + WEB)] == ["web"]


def test_what_is_not_utf8_says_at_which_byte(wrong):
    assert wrong(b'[jobs.web]\ncommand = "\xff"').startswith("not UTF-8 text: byte 22")


@pytest.mark.parametrize(
    ("content", "place"),
    [
        ("[jobs.web]\ncommand = \n", "line 2, column 11: "),
        ("[jobs.web\n", "line 1, column 10: "),
        (WEB + 'command = "false"\n', "line 3, column 18: "),
        ('[jobs.web]\ncommand = "a', "end of file: "),
    ],
)
def test_a_syntax_error_says_where_it_is(wrong, content, place):
    text = wrong(content)
    assert text.startswith(place)
    assert "(at " not in text
    assert len(text) > len(place)


@pytest.mark.parametrize("content", ["", "# nothing\n", "[jobs]\n", "jobs = 3\n", "jobs = []\n", "[[jobs]]\nweb = 3\n"])
def test_a_file_without_jobs_says_how_a_job_looks(wrong, content):
    assert wrong(content) == "jobs: expected at least one [jobs.NAME] table with a command"


@pytest.mark.parametrize(
    ("value", "kind"),
    [("3", "integer"), ('"true"', "string"), ("[]", "list"), ("true", "boolean"), ("0.5", "float"), ("2024-02-29", "date")],
)
def test_a_job_that_is_no_table_says_what_it_is(wrong, value, kind):
    assert wrong(f"[jobs]\nweb = {value}") == f"jobs.web: expected a table, got {kind}"


@pytest.mark.parametrize("digits", ["1" * 5000, "0x" + "f" * 5000], ids=["decimal", "hexadecimal"])
def test_a_number_too_long_for_python_is_an_error_of_the_file(wrong, digits):
    assert wrong(WEB + f"environment = {{A = {digits}}}\n")


@pytest.mark.parametrize("content", ["x = " + "[" * 5000, "x = " + "{a = " * 5000], ids=["lists", "tables"])
def test_nesting_too_deep_for_python_is_an_error_of_the_file(wrong, content):
    assert wrong(content)


@pytest.mark.parametrize("begin", ["jobs.web.environment.", "vars.", "defaults.availability.", "x."])
def test_dotted_keys_too_deep_for_python_are_an_error_of_the_file(wrong, begin):
    said = wrong(f"{begin}{'a.' * 5000}a = 1\n" + DB_TABLE)
    assert "expected no more than 16 tables and lists in each other" in said


# Keys.


@pytest.mark.parametrize(
    ("content", "text"),
    [
        ("job = 3\n" + WEB, "job: unknown key; did you mean jobs?"),
        ("version = 3\n" + WEB, "version: unknown key; known keys: include, max_parallel, vars, defaults, jobs"),
        ("jbos.web.command = 'true'\n", "jbos: unknown key; did you mean jobs?"),
    ],
)
def test_an_unknown_key_of_the_file(wrong, content, text):
    assert wrong(content) == text


@pytest.mark.parametrize("key", JobTable.__struct_fields__)
def test_a_key_with_a_typo_is_told_the_right_one(wrong, key):
    typo = key[:1] + key[2:]
    text = wrong(f'[jobs.web]\n{typo} = "x"\n')
    assert text.startswith(f"jobs.web.{typo}: unknown key; did you mean ")
    assert text.endswith(f" {key}?")


def test_an_unknown_key_that_is_like_no_other_is_told_all(wrong):
    text = wrong(WEB + "restrt = true\n")
    assert text.startswith("jobs.web.restrt: unknown key; known keys: command, working_dir, ")
    assert all(key in text for key in JobTable.__struct_fields__)


PATHS = ("3", ["string", "list", "got integer"])
WRONG_TYPES = {
    "command": PATHS,
    "working_dir": ("3", ["string", "got integer"]),
    "environment": ('["A=1"]', ["table", "got list"]),
    "env_file": PATHS,
    "out_append": PATHS,
    "out_overwrite": PATHS,
    "err_append": PATHS,
    "err_overwrite": PATHS,
    "combined_append": PATHS,
    "combined_overwrite": PATHS,
    "quiet": ('"yes"', ["boolean", "got string"]),
    "capture": ("3", ["string", "got integer"]),
    "watch_fds": ("[1, 2]", ["string", "got list"]),
    "no_new_privs": ("1", ["boolean", "got integer"]),
    "interactive": ('"yes"', ["boolean", "got string"]),
    "stderr_apart": ("0", ["boolean", "got integer"]),
    "wait_for": ("true", ["string", "got boolean"]),
    "linger_s": ('"1 s"', ["float", "got string"]),
    "die_with_supervisor": ('"no"', ["boolean", "got string"]),
    "description": ("3", ["string", "got integer"]),
    "disabled": ("0", ["boolean", "got integer"]),
    "depends_on": ('"db"', ["table or list", "got string"]),
    "ready_log_line": ("true", ["string", "got boolean"]),
    "readiness_probe": ('"/health"', ["table", "got string"]),
    "liveness_probe": ("[]", ["table", "got list"]),
    "startup_probe": ("3", ["table", "got integer"]),
    "sd_notify": ('"READY=1"', ["boolean", "got string"]),
    "watchdog_seconds": ('"1 s"', ["float", "got string"]),
    "notification_fd": ("3.5", ["integer", "got float"]),
    "availability": ('"always"', ["table", "got string"]),
    "success_exit_codes": ("3", ["list", "got integer"]),
    "shutdown": ('"TERM"', ["table", "got string"]),
    "user": ("true", ["integer or string", "got boolean"]),
    "group": ("[]", ["integer or string", "got list"]),
    "umask": ("0.5", ["integer or string", "got float"]),
    "nice": ('"10"', ["integer", "got string"]),
    "limits": ("1024", ["table", "got integer"]),
    "replicas": ('"3"', ["integer", "got string"]),
}


@pytest.mark.parametrize("key", JobTable.__struct_fields__)
def test_a_value_of_the_wrong_type_is_told_the_right_one_in_the_words_of_toml(wrong, key):
    value, words = WRONG_TYPES[key]
    content = f"[jobs.web]\n{key} = {value}\n" + ("" if key == "command" else 'command = "true"\n')
    text = wrong(content)
    assert text.startswith(f"jobs.web.{key}: expected ")
    assert all(word in text for word in words)
    assert "null" not in text  # there is none in TOML


@pytest.mark.parametrize("key", ["command", "env_file", "out_append"])
def test_a_list_with_a_number_says_which_one_it_is(wrong, key):
    content = f'[jobs.web]\n{key} = ["a", 3]\n' + ("" if key == "command" else 'command = "true"\n')
    assert wrong(content) == f"jobs.web.{key}[1]: expected string, got integer"


@pytest.mark.parametrize("value", ["true", "[1]", "2024-02-29", "{B = 1}"])
def test_a_variable_of_the_wrong_type_is_named(wrong, value):
    text = wrong(WEB + f'environment = {{A = "x", DEBUG = {value}}}\n')
    assert text.startswith("jobs.web.environment.DEBUG: expected ")


def test_a_job_without_a_command_says_what_a_command_is(wrong):
    assert wrong("[jobs.web]\nquiet = true\n").startswith("jobs.web.command: missing: expected a string for the shell or a list")


@pytest.mark.parametrize(
    ("command", "expected"),
    [
        ('""', "expected a command, got an empty string"),
        ('" \\n"', "expected a command, got an empty string"),
        ("[]", "expected a list of a command and its arguments"),
        ('[""]', "expected a list of a command and its arguments"),
        ('"a\\u0000b"', "a NUL character"),
    ],
)
def test_a_command_that_cannot_be_one_is_named_by_its_key(wrong, command, expected):
    assert wrong(f"[jobs.web]\ncommand = {command}\n").startswith(f"jobs.web.command: {expected}")


@pytest.mark.parametrize(
    ("key", "value", "expected"),
    [
        ("capture", '"turnstyle"', "expected one of auto, ordered, turnstile, pipe, pty, got 'turnstyle'"),
        ("watch_fds", '"1-3"', "expected one of 1-2, 1-9, got '1-3'"),
        ("wait_for", '"ever"', "expected one of exit, writers, got 'ever'"),
        ("linger_s", "-1", "expected a number of seconds, 0 or more, got -1"),
        ("linger_s", "nan", "expected a number of seconds, 0 or more, got nan"),
        ("linger_s", "inf", "expected a number of seconds, 0 or more, got inf"),
        ("interactive", "true", 'goes with capture = "pty", which is a terminal'),
        ("stderr_apart", "true", 'goes with capture = "pty", which is a terminal'),
    ],
)
def test_a_wish_about_the_capture_that_cannot_be_had_is_named_by_its_key(wrong, key, value, expected):
    assert wrong(WEB + f"{key} = {value}\n") == f"jobs.web.{key}: {expected}"


@pytest.mark.parametrize("name", ["", ".", "..", "a/b", "/", "a\nb", "a\tb", "a\0b", "a\x01b", "a\x1b[31mb", "a\x7fb", "a\x9bb", "x" * 101])
def test_a_name_that_is_no_file_name_is_no_name_of_a_job(wrong, name):
    text = wrong(f'[jobs.{quoted(name)}]\ncommand = "true"\n')
    assert text.startswith("jobs.")
    assert "a job's name must be usable as a file name" in text
    assert text.isprintable()


def test_the_error_names_the_job_it_is_about(wrong):
    text = wrong(WEB + '[jobs."mail queue"]\ncommand = 3\n')
    assert "mail queue" in text
    assert "web" not in text


# Directories and files that must exist.


@pytest.mark.parametrize("value", ["nope", "/nope", "jobs.toml"])
def test_no_such_working_directory(wrong, value, tmp_path):
    text = wrong(WEB + f"working_dir = {quoted(value)}\n")
    assert text == f"jobs.web.working_dir: no such directory: {os.path.join(tmp_path, value)}"


def test_no_such_env_file(wrong, tmp_path):
    assert wrong(WEB + 'env_file = "nope.env"\n') == f"jobs.web.env_file: {tmp_path}/nope.env: No such file or directory"


def test_an_env_file_that_is_a_directory(wrong):
    assert wrong(WEB + 'env_file = "."\n').endswith(": Is a directory")


def test_a_path_of_an_env_file_with_a_nul(wrong):
    assert wrong(WEB + 'env_file = "a\\u0000b"\n').startswith("jobs.web.env_file: ")


def test_an_env_file_that_is_not_utf8(wrong, tmp_path):
    (tmp_path / "web.env").write_bytes(b"A=\xff\n")
    assert wrong(WEB + 'env_file = "web.env"\n') == f"jobs.web.env_file: {tmp_path}/web.env: not UTF-8 text"


@pytest.mark.parametrize(
    ("content", "line"), [("A=1\nthis is none\nB=2\n", 2), ("A=1\n\n# comment\n\n=x\n", 5), ('A="open\n', 1), ("A=1 2\n'B\n", 2)]
)
def test_a_bad_line_in_an_env_file_is_named_by_its_number(wrong, tmp_path, content, line):
    (tmp_path / "web.env").write_text(content)
    assert wrong(WEB + 'env_file = "web.env"\n') == f"jobs.web.env_file: {tmp_path}/web.env: line {line}: expected NAME=value"


def test_an_env_file_with_a_name_or_value_that_cannot_be_one(wrong, tmp_path):
    (tmp_path / "name.env").write_text("'A=B'=1\n")
    (tmp_path / "nul.env").write_text("A=x\0y\n")
    assert "not a name that an environment variable can have" in wrong(WEB + 'env_file = "name.env"\n')
    assert wrong(WEB + 'env_file = "nul.env"\n').startswith("jobs.web.env_file.A: a NUL character")


@pytest.mark.parametrize("name", ["A=B", "=", "", "A\0B"])
def test_a_name_that_no_variable_can_have(wrong, name):
    text = wrong(WEB + f'environment = {{{quoted(name)} = "x"}}\n')
    assert text == f"jobs.web.environment.{name!r}: not a name that an environment variable can have"


def test_a_value_with_a_nul(wrong):
    text = wrong(WEB + 'environment = {A = "x\\u0000y"}\n')
    assert text == "jobs.web.environment.A: a NUL character cannot be in it"


@pytest.mark.parametrize("key", OUTPUT_KEYS)
@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("nope/a.log", "no such directory: {folder}/nope"),
        ("nope/", "no such directory: {folder}/nope"),
        (".", "{folder}/. is a directory, expected a file"),
        ("", "expected the path of a file, got an empty string"),
    ],
)
def test_an_output_that_cannot_be_a_file(wrong, tmp_path, key, path, expected):
    assert wrong(WEB + f'{key} = ["a.log", {quoted(path)}]\n') == f"jobs.web.{key}: {expected.format(folder=tmp_path)}"


@pytest.mark.parametrize(
    ("line", "place"),
    [
        ("out_append = ['a', {}]", "out_append[1]"),
        ("working_dir = {}", "working_dir"),
        ("shutdown.command = {}", "shutdown.command"),
        ("readiness_probe.exec.command = ['a', {}]", "readiness_probe.exec.command[1]"),
    ],
)
def test_a_nul_is_in_no_string(wrong, line, place):
    content = WEB + line.format('"a\\u0000b"') + "\n"
    assert wrong(content) == f"jobs.web.{place}: a NUL character cannot be in it"


# The same file twice.


def test_a_file_cannot_be_written_by_two_jobs(wrong, tmp_path):
    content = WEB + 'out_append = "a.log"\n[jobs.db]\ncommand = "true"\nerr_overwrite = "./a.log"\n'
    assert wrong(content) == (
        f"jobs.db.err_overwrite: {tmp_path}/./a.log is already written by jobs.web.out_append"
        f" (the same file as {tmp_path}/a.log): give each output a file of its own"
    )


def test_a_file_cannot_be_under_two_keys(wrong):
    text = wrong(WEB + 'out_append = "a.log"\ncombined_append = "a.log"\n')
    assert text.startswith("jobs.web.combined_append: ")
    assert "is already written by jobs.web.out_append" in text


def test_a_file_cannot_be_twice_in_a_list(wrong):
    text = wrong(WEB + 'out_append = ["a.log", "b.log", "a.log"]\n')
    assert text.startswith("jobs.web.out_append: ")
    assert "a.log is already written by jobs.web.out_append" in text


@pytest.mark.parametrize("exists", [True, False])
def test_a_file_is_the_same_through_a_symbolic_link(wrong, tmp_path, exists):
    if exists:
        (tmp_path / "a.log").touch()
    (tmp_path / "link.log").symlink_to("a.log")
    assert "(the same file as " in wrong(WEB + 'out_append = ["a.log", "link.log"]\n')


def test_a_file_is_the_same_through_a_linked_directory(wrong, tmp_path):
    (tmp_path / "logs").mkdir()
    (tmp_path / "link").symlink_to("logs")
    assert "(the same file as " in wrong(WEB + 'out_append = ["logs/a.log", "link/a.log"]\n')


def test_a_file_is_the_same_through_a_hard_link(wrong, tmp_path):
    (tmp_path / "a.log").touch()
    (tmp_path / "b.log").hardlink_to(tmp_path / "a.log")
    assert "(the same file as " in wrong(WEB + 'out_append = ["a.log", "b.log"]\n')


def test_a_fifo_is_the_same_too(wrong, tmp_path):
    os.mkfifo(tmp_path / "fifo")
    assert "is already written by" in wrong(WEB + 'out_append = "fifo"\nerr_append = "fifo"\n')


def test_dev_null_may_be_written_by_everybody(load):
    (spec,) = load(WEB + 'out_append = ["/dev/null", "/dev/null"]\nerr_overwrite = "/dev/null"\n')
    assert len(spec.outputs) == 3


def test_two_files_of_the_same_name_in_two_folders_are_two_files(load, tmp_path):
    (tmp_path / "logs").mkdir()
    (spec,) = load(WEB + 'out_append = ["a.log", "logs/a.log"]\n')
    assert [file.path for file in spec.outputs] == [f"{tmp_path}/a.log", f"{tmp_path}/logs/a.log"]


# What is right.


def test_a_job_is_what_its_table_says(load, tmp_path):
    (tmp_path / "srv").mkdir()
    (spec,) = load("""
        [jobs.web]
        command = ["serve", "--port", "80"]
        working_dir = "srv"
        environment = {MODE = "fast", PORT = 80, RATIO = 0.5}
        out_append = "out.log"
        err_overwrite = ["err.log", "/dev/null"]
        combined_append = []
        quiet = true
        capture = "turnstile"
        watch_fds = "1-9"
        no_new_privs = true
        wait_for = "writers"
        linger_s = 2
        die_with_supervisor = false
    """)
    assert spec == JobSpec(
        "web",
        ["serve", "--port", "80"],
        f"{tmp_path}/srv",
        {"MODE": "fast", "PORT": "80", "RATIO": "0.5"},
        (
            OutputFile(f"{tmp_path}/out.log", Stream.STDOUT, append=True),
            OutputFile(f"{tmp_path}/err.log", Stream.STDERR, append=False),
            OutputFile("/dev/null", Stream.STDERR, append=False),
        ),
        quiet=True,
        capture=CaptureSpec("turnstile", "1-9", no_new_privs=True),
        wait_for="writers",
        linger_s=2.0,
        die_with_supervisor=False,
    )


def test_a_terminal_can_be_for_the_keyboard_too_or_for_stdout_alone(load):
    (keyboard,) = load(WEB + 'capture = "pty"\ninteractive = true\n')
    (stdout,) = load(WEB + 'capture = "pty"\nstderr_apart = true\n')
    assert (keyboard.capture, stdout.capture) == (CaptureSpec("pty", interactive=True), CaptureSpec("pty", stderr_apart=True))


def test_two_jobs_cannot_have_the_keyboard(wrong):
    job = '[jobs.{}]\ncommand = "cat"\ncapture = "pty"\ninteractive = true\n'
    assert wrong(job.format("a") + job.format("b")) == "jobs.b.interactive: there is one terminal, and it is for jobs.a already"


def test_a_job_with_only_a_command_runs_where_the_file_is_and_ends_with_the_supervisor(load, tmp_path):
    assert load(WEB, {"HOME": "/root"}) == [JobSpec("web", "true", str(tmp_path), {"HOME": "/root"}, die_with_supervisor=True)]


@pytest.mark.parametrize("name", ["web", "a b", "café", "x" * 100, "...", "-", "a.b", "日本"])
def test_a_name_may_be_anything_that_a_file_can_be_called(load, name):
    assert [spec.name for spec in load(f'[jobs.{quoted(name)}]\ncommand = "true"\n')] == [name]


def test_relative_paths_are_relative_to_the_file_and_not_to_where_we_are(tmp_path, monkeypatch):
    (tmp_path / "conf" / "srv").mkdir(parents=True)
    (tmp_path / "conf" / "web.env").write_text("A=1\n")
    (tmp_path / "conf" / "jobs.toml").write_text(WEB + 'working_dir = "srv"\nenv_file = "web.env"\nout_append = "a.log"\n')
    monkeypatch.chdir(tmp_path)
    (spec,) = jobsfile.load(["conf/jobs.toml"], {}).jobs
    assert spec.working_dir == f"{tmp_path}/conf/srv"
    assert spec.environment == {"A": "1"}
    assert [file.path for file in spec.outputs] == [f"{tmp_path}/conf/a.log"]


def test_absolute_paths_are_left_alone(load, tmp_path):
    (spec,) = load(WEB + f'working_dir = "/"\nout_append = "{tmp_path}/a.log"\n')
    assert (spec.working_dir, spec.outputs[0].path) == ("/", f"{tmp_path}/a.log")


def test_loading_makes_no_file(load, tmp_path):
    load(WEB + 'out_append = "a.log"\nout_overwrite = "b.log"\n')
    assert os.listdir(tmp_path) == ["jobs.toml"]


def test_the_file_beats_the_env_file_which_beats_our_environment(load, tmp_path):
    (tmp_path / "web.env").write_text("B=env_file\nC=env_file\n")
    (spec,) = load(WEB + 'env_file = "web.env"\nenvironment = {C = "file"}\n', {"A": "ours", "B": "ours", "C": "ours"})
    assert spec.environment == {"A": "ours", "B": "env_file", "C": "file"}


def test_a_later_env_file_beats_an_earlier_one(load, tmp_path):
    (tmp_path / "1.env").write_text("A=1\nB=1\n")
    (tmp_path / "2.env").write_text("B=2\n")
    (spec,) = load(WEB + 'env_file = ["1.env", "2.env"]\n')
    assert spec.environment == {"A": "1", "B": "2"}


def test_an_env_file_may_be_written_as_shells_and_other_tools_write_it(load, tmp_path):
    (tmp_path / "web.env").write_text("# comment\n\nexport A=1\nB = 'two words'\nC=\"line\\nline\"\nD=x # comment\nE=\nF=${A}0\n")
    (spec,) = load(WEB + 'env_file = "web.env"\n')
    assert spec.environment == {"A": "1", "B": "two words", "C": "line\nline", "D": "x", "E": "", "F": "10"}


def test_an_env_file_refers_to_the_environment_that_the_job_gets(load, tmp_path, monkeypatch):
    monkeypatch.setenv("BASE", "/not/given")
    (tmp_path / "web.env").write_text("LOGS=${BASE}/logs\n")
    (spec,) = load(WEB + 'env_file = "web.env"\n', {"BASE": "/given"})
    assert spec.environment == {"BASE": "/given", "LOGS": "/given/logs"}


def test_the_environment_that_was_given_is_not_changed(load):
    ours = {"A": "ours"}
    load(WEB + 'environment = {A = "file", B = "file"}\n', ours)
    assert ours == {"A": "ours"}


def test_jobs_do_not_share_their_environment(load):
    first, second = load(WEB + "environment = {A = 1}\n[jobs.db]\ncommand = 'true'\n", {"B": "2"})
    assert (first.environment, second.environment) == ({"A": "1", "B": "2"}, {"B": "2"})


# Properties.


def toml(value):
    match value:
        case bool():
            return str(value).lower()
        case str():
            return quoted(value)
        case dict():
            return "{" + ", ".join(f"{quoted(key)} = {toml(one)}" for key, one in value.items()) + "}"
        case list():
            return "[" + ", ".join(map(toml, value)) + "]"
        case dt.date():
            return value.isoformat()
        case _:
            return repr(value)


def document_text(document):
    return "".join(f"{quoted(key)} = {toml(value)}\n" for key, value in document.items())


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Shared by all examples of a property: loading changes nothing in it."""
    made = tmp_path_factory.mktemp("jobs")
    (made / "srv").mkdir()
    (made / "web.env").write_text("A=1\n")
    return made


def load_in(folder, content):
    path = folder / "jobs.toml"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return list(jobsfile.load([str(path)], {"HOME": "/root"}).jobs)


def specs_or_config_error(folder, content):
    try:
        specs = load_in(folder, content)
    except ConfigError as error:
        assert str(error).startswith(f"{folder}/jobs.toml: ")
        return
    assert specs
    for spec in specs:
        assert isinstance(spec, JobSpec)
        assert all(isinstance(text, str) for pair in spec.environment.items() for text in pair)
        assert all(os.path.isabs(file.path) for file in spec.outputs)


TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=6)
NAME = st.text(st.characters(exclude_categories=["Cs", "Cc"], exclude_characters="/"), min_size=1, max_size=8).filter(
    lambda name: name not in (".", "..")
)
VARIABLE = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0="), min_size=1, max_size=6)
VALUE = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=6)
COMMAND = st.one_of(VALUE.filter(str.strip), st.lists(VALUE, min_size=1, max_size=3).filter(lambda words: words[0]))
VARIABLES = st.dictionaries(VARIABLE, st.one_of(VALUE, st.integers(-(2**70), 2**70), st.floats(allow_nan=False)), max_size=3)


def escaped(value):
    """Where there are variables, a dollar sign before a brace is one that is doubled."""
    match value:
        case str():
            return value.replace("${", "$${")
        case list():
            return [escaped(one) for one in value]
        case dict():
            return {key: escaped(one) for key, one in value.items()}
        case _:
            return value


@settings(max_examples=200, deadline=None)
@given(jobs=st.dictionaries(NAME, st.tuples(COMMAND, VARIABLES), min_size=1, max_size=4))
def test_whatever_a_right_file_says_is_what_is_run_in_its_order(folder, jobs):
    document = {"jobs": {name: {"command": command, "environment": escaped(variables)} for name, (command, variables) in jobs.items()}}
    for name, (command, _) in jobs.items():
        if isinstance(command, list):
            document["jobs"][name]["command"] = escaped(command)
    specs = load_in(folder, document_text(document))
    assert [spec.name for spec in specs] == list(jobs)
    for spec, (command, variables) in zip(specs, jobs.values(), strict=True):
        assert spec.command == command
        assert spec.environment == {"HOME": "/root"} | {name: str(value) for name, value in variables.items()}


VALID = {
    "jobs": {
        "web": {
            "command": ["serve", "--port", "80"],
            "working_dir": "srv",
            "environment": {"MODE": "fast", "PORT": 80},
            "env_file": ["web.env"],
            "out_append": "out.log",
            "err_overwrite": ["err.log", "/dev/null"],
        },
        "db": {
            "command": "sleep 1",
            "quiet": True,
            "combined_append": "db.log",
            "depends_on": {"web": {"condition": "process_healthy"}},
            "availability": {"restart": "on_failure", "backoff_seconds": 0.5},
            "limits": {"nofile": [10, "unlimited"]},
            "shutdown": {"signal": "INT", "timeout_seconds": 3},
        },
    },
    "vars": {"PORT": 8080},
    "defaults": {"readiness_probe": {"tcp": {"port": "${PORT}"}, "period_seconds": 1}},
}

KEYS = st.one_of(
    TEXT, st.sampled_from(["jobs", "comand", "..", "a/b", "exec", "http_get", "condition", "signal", *JobTable.__struct_fields__])
)
ANYTHING = st.recursive(
    st.one_of(
        st.booleans(),
        st.integers(-(2**65), 2**65),
        st.floats().map(lambda value: abs(value) if math.isnan(value) else value),
        st.dates(),
        TEXT,
        st.sampled_from(
            [
                "",
                ".",
                "srv",
                "out.log",
                "db.log",
                "/dev/null",
                "web.env",
                "nope/x",
                "a\0b",
                "${PORT}",
                "${NOPE}",
                "${",
                "always",
                "unlimited",
                "(" * 9,
            ]
        ),
    ),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(KEYS, inner, max_size=3)),
    max_leaves=5,
)


def places(value, path=()):
    """The path of every value in a document."""
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, one in items:
        yield (*path, key)
        yield from places(one, (*path, key))


@st.composite
def mutated_documents(draw):
    document = copy.deepcopy(VALID)
    for _ in range(draw(st.integers(1, 3))):
        *path, key = draw(st.sampled_from(sorted(places(document), key=repr) or [("jobs",)]))
        parent = document
        for step in path:
            parent = parent[step]
        what = draw(st.sampled_from(["replace", "rename", "remove", "add"]))
        if what == "add" and isinstance(parent, dict):
            parent[draw(KEYS)] = draw(ANYTHING)
        elif what == "rename" and isinstance(parent, dict) and key in parent:
            parent[draw(KEYS)] = parent.pop(key)
        elif what == "remove" and (isinstance(parent, list) or key in parent):
            del parent[key]
        else:
            parent[key] = draw(ANYTHING)
    return document


def test_the_document_that_is_mutated_is_right(folder):
    assert [spec.name for spec in load_in(folder, document_text(VALID))] == ["web", "db"]


@settings(max_examples=500, deadline=None)
@given(document=mutated_documents())
def test_a_mutated_document_gives_jobs_or_a_config_error(folder, document):
    assume(document != VALID)
    specs_or_config_error(folder, document_text(document))


SOUP = st.lists(
    st.one_of(
        st.sampled_from(
            ["[", "]", "{", "}", "=", ".", ",", "\n", '"', "'", '"""', "\\", "#", "\r", "\0", "\ufeff", "-", "1", "1979-05-27", "nan"]
        ),
        st.sampled_from(["jobs", "[jobs.web]\n", 'command = "true"\n', "environment = {", "command", "web", "true", "é", "\\u"]),
        TEXT,
    ),
    max_size=25,
).map("".join)


@settings(max_examples=500, deadline=None)
@given(content=st.one_of(SOUP, SOUP.map(lambda text: WEB + text), st.binary(max_size=40)))
def test_any_text_gives_jobs_or_a_config_error(folder, content):
    specs_or_config_error(folder, content)


ENV_SOUP = st.lists(
    st.one_of(
        st.sampled_from(["A", "B", "=", "\n", " ", '"', "'", "\\", "#", "$", "${A}", "${", "}", "export ", ":-", "\r", "\0", "é"]), TEXT
    ),
    max_size=20,
).map("".join)


@settings(max_examples=500, deadline=None)
@given(content=st.one_of(ENV_SOUP.map(str.encode), st.binary(max_size=30)))
def test_any_env_file_gives_jobs_or_a_config_error(folder, content):
    (folder / "random.env").write_bytes(content)
    specs_or_config_error(folder, WEB + 'env_file = "random.env"\n')
