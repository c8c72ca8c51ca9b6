"""The Procfile: the jobs, ports and variables that honcho gives it, and one clear error for a line that is none."""

from __future__ import annotations

import subprocess

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dtee_async.config.jobsfile import JobsFile
from dtee_async.config.procfile import load_procfile
from dtee_async.core.policy import Availability
from dtee_async.core.spec import JobSpec
from dtee_async.errors import ConfigError


@pytest.fixture
def load(tmp_path):
    """Write a Procfile into tmp_path and load it."""

    def write_and_load(content, **environment):
        path = tmp_path / "Procfile"
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return load_procfile(str(path), environment)

    return write_and_load


@pytest.fixture
def wrong(load, tmp_path):
    """What is said about a Procfile after its name."""

    def load_and_fail(content, **environment):
        with pytest.raises(ConfigError) as caught:
            load(content, **environment)
        name, text = f"{tmp_path}/Procfile: ", str(caught.value)
        assert text.startswith(name)
        return text.removeprefix(name)

    return load_and_fail


PROCFILE = """\
# the site
web: python -m http.server $PORT

worker-1:   echo "a: b" # not ours
\t
clock_: sleep 1
"""


def test_a_procfile_is_jobs_for_the_shell_each_with_a_port(load, tmp_path):
    def job(name, command, port):
        return JobSpec(
            name,
            command,
            str(tmp_path),
            {"HOME": "/root", "PORT": port},
            die_with_supervisor=True,
            availability=Availability(exit_on_end=True),
        )

    assert load(PROCFILE, HOME="/root") == JobsFile(
        (
            job("web", "python -m http.server $PORT", "5000"),
            job("worker-1", 'echo "a: b" # not ours', "5100"),
            job("clock_", "sleep 1", "5200"),
        )
    )


def test_the_first_port_is_the_one_of_the_environment(load):
    assert [spec.environment["PORT"] for spec in load(PROCFILE, PORT="80").jobs] == ["80", "180", "280"]
    assert load(PROCFILE, PORT="").jobs[0].environment["PORT"] == "5000"


def test_the_env_file_beside_it_wins_over_the_environment(load, tmp_path):
    (tmp_path / ".env").write_text("PORT=3000\nNAME=file\nDIR=${HOME}/x\n")
    web = load("web: echo\n", PORT="80", NAME="ours", HOME="/root").jobs[0]
    assert web.environment == {"PORT": "3000", "NAME": "file", "DIR": "/root/x", "HOME": "/root"}


def test_a_shell_runs_the_command_with_its_port(load):
    spec = load("web: echo ${PORT:-none} $$ >&2; echo $PORT\n", PATH="/usr/bin:/bin").jobs[0]
    done = subprocess.run(spec.argv, env=spec.environment, cwd=spec.working_dir, capture_output=True, text=True, timeout=20, check=True)
    assert done.stdout == "5000\n"
    assert done.stderr.startswith("5000 ")
    assert done.stderr.split()[1].isdigit()


@pytest.mark.parametrize("content", ["web: a", "web:a\n", "web: a\r\n", "\ufeffweb: a\n", "  web: a  \n"])
def test_a_line_may_end_and_begin_as_editors_have_it(load, content):
    (spec,) = load(content).jobs
    assert (spec.name, spec.command) == ("web", "a")


@pytest.mark.parametrize(
    ("content", "text"),
    [
        ("", "expected at least one line NAME: COMMAND"),
        ("# web: a\n\n", "expected at least one line NAME: COMMAND"),
        ("web: a\n\nworker\n", "line 3: expected NAME: COMMAND, the name of letters, digits, - and _"),
        ("web:\n", "line 1: expected NAME: COMMAND, the name of letters, digits, - and _"),
        ("a/b: c\n", "line 1: expected NAME: COMMAND, the name of letters, digits, - and _"),
        (f"{'x' * 101}: c\n", "line 1: expected NAME: COMMAND, the name of letters, digits, - and _"),
        ("web: a\0b\n", "line 1: expected NAME: COMMAND, the name of letters, digits, - and _"),
        ("web: a\n# x\nweb: b\n", "line 3: there is a web already"),
        (b"web: \xff\n", "not UTF-8 text: byte 5 (invalid start byte)"),
    ],
)
def test_a_procfile_that_is_wrong_says_in_which_line(wrong, content, text):
    assert wrong(content) == text


@pytest.mark.parametrize("port", ["http", "-1", "65536", "8080.5", "9" * 5000])
def test_a_port_that_is_none(wrong, port):
    assert wrong("web: a\n", PORT=port).startswith("PORT: expected a number up to 65535 in the environment or .env, got ")


def test_an_env_file_that_is_wrong_is_named_with_its_line(wrong, tmp_path):
    (tmp_path / ".env").write_text("A=1\nthis is none\n")
    assert wrong("web: a\n") == f"{tmp_path}/.env: line 2: expected NAME=value"
    (tmp_path / ".env").write_bytes(b"\xff")
    assert wrong("web: a\n") == f"{tmp_path}/.env: not UTF-8 text"
    (tmp_path / ".env").write_text("A=x\0y\n")
    assert wrong("web: a\n") == f"{tmp_path}/.env: A: a NUL character cannot be in an environment variable"


def test_no_such_procfile(tmp_path):
    with pytest.raises(ConfigError, match=r"^/.*/nope: No such file or directory$"):
        load_procfile(f"{tmp_path}/nope", {})
    with pytest.raises(ConfigError, match=r": Is a directory$"):
        load_procfile(str(tmp_path), {})


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("procfile")


@given(
    st.one_of(
        st.binary(max_size=40), st.lists(st.sampled_from(["web", ":", " ", "\n", "#", "a", "\r", "\0", "é", "\x85", "-"])).map("".join)
    )
)
def test_any_content_is_jobs_or_an_error_that_names_the_file(folder, content):
    path = folder / "Procfile"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    try:
        loaded = load_procfile(str(path), {})
    except ConfigError as error:
        assert str(error).startswith(f"{path}: ")
    else:
        assert loaded.jobs
        assert all(spec.command.strip() == spec.command for spec in loaded.jobs)
