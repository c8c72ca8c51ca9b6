"""Children and their groups."""

import os
import signal
import subprocess
import sys
from errno import EACCES, ENOENT

import pytest

from dtee_async.core.contracts import ChildFds
from dtee_async.errors import CommandNotFoundError, SpawnError, UnknownExitStatusError
from dtee_async.process.child import reap
from dtee_async.process.group import members, signal_group
from dtee_async.process.spawn import SpawnPlan, spawn


@pytest.fixture
def null():
    fd = os.open(os.devnull, os.O_RDWR)
    yield fd
    os.close(fd)


def run(plan, stdout, stderr=None):
    return reap(spawn(plan, ChildFds(stdout, stdout if stderr is None else stderr)))


def output_of(plan):
    reader, writer = os.pipe()
    exit = run(plan, writer)
    os.close(writer)
    with open(reader, "rb") as file:
        return exit, file.read()


def test_a_child_gets_a_session_and_null_as_stdin_and_no_fd_of_ours():
    extra = os.dup(0)
    os.set_inheritable(extra, True)
    script = "import os; print(os.getsid(0) == os.getpid() == os.getpgid(0), os.readlink('/proc/self/fd/0'), sorted(map(int, os.listdir('/proc/self/fd'))))"
    exit, output = output_of(SpawnPlan([sys.executable, "-I", "-S", "-c", script]))
    os.close(extra)
    assert exit.returncode == 0
    assert output == b"True /dev/null [0, 1, 2, 3]\n"  # 3 is the listing


def test_environment_and_working_directory(tmp_path):
    _, output = output_of(SpawnPlan(["/bin/sh", "-c", "pwd; echo $A"], str(tmp_path), {"A": "b"}))
    assert output == os.fsencode(tmp_path) + b"\nb\n"


@pytest.mark.parametrize(
    ("argv", "cwd", "kind", "filename"),
    [
        (["nonexistent-command"], None, CommandNotFoundError, "nonexistent-command"),
        (["/dev/null"], None, SpawnError, "/dev/null"),
        (["true"], "/nonexistent", SpawnError, "/nonexistent"),
        (["a\0b"], None, SpawnError, "a\0b"),
    ],
)
def test_what_cannot_be_started_is_an_error_that_names_it(null, argv, cwd, kind, filename):
    with pytest.raises(kind) as caught:
        spawn(SpawnPlan(argv, cwd), ChildFds(null, null))
    assert caught.value.filename == filename
    assert isinstance(caught.value, FileNotFoundError) is (kind is CommandNotFoundError)


def test_a_script_without_an_interpreter_line_is_run_by_the_shell(tmp_path):
    script = tmp_path / "script"
    script.write_text("echo $0 $1\n")
    script.chmod(0o755)
    assert output_of(SpawnPlan([str(script), "x"]))[1] == f"{script} x\n".encode()


def put(path, text, mode=0o755):
    path.parent.mkdir(exist_ok=True)
    path.write_text(text)
    path.chmod(mode)


def in_two_folders(tmp_path, working_dir=None):
    """A plan, and a command in the second folder of its PATH."""
    put(tmp_path / "b/tool", "#!/bin/sh\necho b $0\n")
    return SpawnPlan(["tool", "x"], working_dir, {"PATH": f"{tmp_path}/a:{tmp_path}/b:{os.environ['PATH']}"})


def become_output_of(plan):
    """The same for become(), in a process that has the plan's environment."""
    code = f"from dtee_async.process.spawn import *; become(SpawnPlan({plan.argv!r}))"
    return subprocess.run([sys.executable, "-c", code], env=plan.environment, stdout=subprocess.PIPE).stdout


def test_the_first_in_path_is_run_also_if_it_has_no_interpreter_line(tmp_path):
    plan = in_two_folders(tmp_path)
    put(tmp_path / "a/tool", "echo a $0 $1\n")
    assert output_of(plan)[1] == become_output_of(plan) == f"a {tmp_path}/a/tool x\n".encode()


@pytest.mark.parametrize("first", ["#!/nonexistent\n", "", None])
def test_what_cannot_be_run_is_passed_by_as_execvp_does(tmp_path, first):
    plan = in_two_folders(tmp_path)
    if first is None:
        (tmp_path / "a/tool").mkdir(parents=True)
    else:
        put(tmp_path / "a/tool", first, 0o755 if first else 0o644)
    assert output_of(plan)[1] == become_output_of(plan) == f"b {tmp_path}/b/tool\n".encode()


@pytest.mark.parametrize("path", ["b", "", ":/nonexistent", "./b"])
@pytest.mark.parametrize("line", ["#!/bin/sh\n", ""])
def test_folders_of_path_are_relative_to_the_working_directory(tmp_path, monkeypatch, path, line):
    monkeypatch.chdir(tmp_path)
    for folder in (tmp_path / "sub", tmp_path / "sub/b"):
        put(folder / "tool", f"{line}echo yes\n")
    for working_dir in ("sub", str(tmp_path / "sub")):
        assert output_of(SpawnPlan(["tool"], working_dir, {"PATH": path}))[1] == b"yes\n"


@pytest.mark.parametrize(("mode", "text", "kind"), [(0o644, "#!/bin/sh\n", SpawnError), (0o755, "#!/nonexistent\n", CommandNotFoundError)])
def test_the_error_of_a_command_in_path_has_the_name_that_was_given(null, tmp_path, mode, text, kind):
    put(tmp_path / "a/tool", text, mode)
    for folder in ("/nonexistent", f"{tmp_path}/a"):
        with pytest.raises(SpawnError) as caught:
            spawn(SpawnPlan(["tool"], None, {"PATH": f"{folder}:/nonexistent"}), ChildFds(null, null))
        expected = kind if folder != "/nonexistent" else CommandNotFoundError
        assert (type(caught.value), caught.value.filename) == (expected, "tool")
        assert caught.value.errno == (EACCES if expected is SpawnError else ENOENT)


def test_a_status_that_somebody_else_has_taken_is_an_error_and_not_0(null):
    child = spawn(SpawnPlan(["true"]), ChildFds(null, null))
    os.waitpid(child.pid, 0)
    with pytest.raises(UnknownExitStatusError, match="taken by somebody else"):
        reap(child)


def test_ignored_sigchld_is_an_error_and_not_0():
    code = "import os, signal; signal.signal(signal.SIGCHLD, signal.SIG_IGN)\n"
    code += "from dtee_async.process.child import *\nfrom dtee_async.process.spawn import *\n"
    code += "try: print(reap(spawn(SpawnPlan(['false']), ChildFds(1, 2))))\n"
    code += "except UnknownExitStatusError: print('unknown')\n"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout == "unknown\n"


def test_members_are_the_living_processes_of_the_group(null):
    reader, writer = os.pipe()
    child = spawn(SpawnPlan(["sh", "-c", "sleep 100 & echo; wait"]), ChildFds(writer, null))
    os.close(writer)
    os.read(reader, 1)
    while sorted(member.name for member in members(child.pid)) != ["sh", "sleep"]:  # until the fork has become sleep
        pass
    assert signal_group(child.pid, signal.SIGKILL)
    assert reap(child).signal == signal.SIGKILL
    os.close(reader)
    while members(child.pid):  # init reaps the other one
        pass


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGPIPE])
def test_die_by_ends_us_by_the_signal_itself(number):
    code = f"from dtee_async.process.group import die_by; die_by({int(number)})"
    assert subprocess.run([sys.executable, "-c", code]).returncode == -number
