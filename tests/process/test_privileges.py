"""What is done between fork and exec: user, group, limits, umask, nice and fds; and what is said when it cannot be done."""

import grp
import os
import pwd
import resource
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dtee_async.core.contracts import ChildFds
from dtee_async.core.policy import Privileges
from dtee_async.errors import CommandNotFoundError, SpawnError
from dtee_async.process.child import reap
from dtee_async.process.privileges import limit_problem, resolve, with_login
from dtee_async.process.spawn import SpawnPlan, spawn

PYTHON = (sys.executable, "-I", "-S", "-c")
root = pytest.mark.root


def output_of(*argv, **settings):
    """Its stdout, and its status."""
    reader, writer = os.pipe()
    try:
        child = spawn(SpawnPlan(argv, **settings), ChildFds(writer, writer))
    finally:
        os.close(writer)
        with open(reader, "rb") as file:
            output = file.read()
    return output.decode(), reap(child).returncode


def privileged(script, **wishes):
    output, status = output_of("sh", "-c", script, privileges=Privileges(**wishes))
    assert status == 0, output
    return output.split()


def test_umask_nice_and_limits():
    assert privileged(
        "umask; nice; ulimit -Sn; ulimit -Hn; ulimit -Sc", umask=0o027, nice=7, limits={"nofile": (50, 60), "core": (0, -1)}
    ) == [
        "0027",
        "7",
        "50",
        "60",
        "0",
    ]


def test_nothing_is_asked_of_a_launcher_that_nobody_needs(monkeypatch):
    monkeypatch.setattr(sys, "executable", "/nonexistent/python")
    assert output_of("echo", "x", privileges=Privileges()) == ("x\n", 0)
    assert output_of("echo", "x", privileges=Privileges(limits={})) == ("x\n", 0)
    with pytest.raises(SpawnError, match="what is to prepare it cannot be started"):
        output_of("echo", "x", privileges=Privileges(umask=0))


@root
def test_the_user_has_his_groups_and_no_way_back():
    entry = pwd.getpwnam("daemon")
    script = "import os; print(os.getresuid(), os.getresgid(), sorted(os.getgroups()))"
    output, _ = output_of("/usr/bin/python3", "-I", "-S", "-c", script, privileges=Privileges(user="daemon"))
    ids, groups = (entry.pw_uid,) * 3, (entry.pw_gid,) * 3
    assert output == f"{ids} {groups} {sorted(os.getgrouplist('daemon', entry.pw_gid))}\n"


@root
@pytest.mark.parametrize("user", ["nobody", "65534", 65534])
def test_user_and_group_by_name_and_by_number(user):
    gid = grp.getgrnam("daemon").gr_gid
    for group in ("daemon", gid, str(gid)):
        assert privileged("id -u; id -g; id -G", user=user, group=group) == ["65534", str(gid), str(gid)]
    assert privileged("id -u; id -g; id -G", group="daemon") == ["0", str(gid), str(gid)]
    assert privileged("id -u; id -g", user=4242, group=4243) == ["4242", "4243"]


@root
def test_the_environment_says_who_the_user_is_unless_the_job_says_something_else(monkeypatch):
    monkeypatch.setenv("HOME", "/root")
    monkeypatch.delenv("LOGNAME", raising=False)
    entry = pwd.getpwnam("nobody")
    script = "echo $HOME $USER $LOGNAME $SHELL"
    assert privileged(script, user="nobody") == [entry.pw_dir, "nobody", "nobody", entry.pw_shell]
    environment = os.environ | {"HOME": "/srv"}
    output, _ = output_of("sh", "-c", script, environment=environment, privileges=Privileges(user="nobody"))
    assert output.split() == ["/srv", "nobody", "nobody", entry.pw_shell]


def test_what_a_job_says_itself_stays(monkeypatch):
    monkeypatch.setenv("HOME", "/root")
    login = {"HOME": "/home/u", "USER": "u"}
    assert with_login({"HOME": "/root", "A": "b"}, login) == {"HOME": "/home/u", "A": "b"} | ({} if "USER" in os.environ else {"USER": "u"})
    assert with_login({"HOME": "/mine"}, login)["HOME"] == "/mine"


@root
def test_the_user_can_open_his_streams_by_their_paths():
    assert output_of("sh", "-c", "echo x >/dev/stderr", privileges=Privileges(user="nobody")) == ("x\n", 0)


@root
def test_a_program_that_the_user_may_not_execute_is_an_error_of_the_command(tmp_path):
    path = tmp_path / "mine"
    path.write_text("#!/bin/sh\n")
    path.chmod(0o700)
    with pytest.raises(SpawnError, match="Permission denied") as caught:
        output_of(str(path), privileges=Privileges(user="nobody"))
    assert caught.value.filename == str(path)
    with pytest.raises(CommandNotFoundError):
        output_of("nonexistent-command", environment={"PATH": "/usr/bin:/bin"}, privileges=Privileges(user="nobody"))


# What cannot be done.


@pytest.mark.parametrize(
    ("wishes", "text"),
    [
        ({"user": "nobdy"}, "user: no such user: nobdy"),
        ({"user": ""}, "user: no such user: "),
        ({"user": "a\0b"}, "user: no such user: a\0b"),
        ({"user": "²"}, "user: no such user: ²"),
        ({"user": -1}, "user: expected a number from 0 to 4294967294, got -1"),
        ({"user": 1 << 32}, "user: expected a number from 0 to 4294967294, got 4294967296"),
        ({"user": 4242}, "user: 4242 is not in passwd(5), so its group is not known: say it by group"),
        ({"group": "wheels"}, "group: no such group: wheels"),
        ({"group": 0xFFFFFFFF}, "group: expected a number from 0 to 4294967294, got 4294967295"),
        ({"limits": {"nofile": (20, 10)}}, "limits.nofile: expected a soft limit that is not above the hard one, got 20 and 10"),
        ({"limits": {"nofile": (-1, 10)}}, "limits.nofile: expected a soft limit that is not above the hard one, got -1 and 10"),
        ({"limits": {"nofile": (-2, -1)}}, "limits.nofile: expected a soft limit that is not above the hard one, got -2 and -1"),
        ({"limits": {"nofile": (1 << 40, 1 << 40)}}, "limits.nofile: Operation not permitted"),
    ],
)
def test_the_error_names_what_failed(wishes, text):
    with pytest.raises(SpawnError) as caught:
        output_of("true", privileges=Privileges(**wishes))
    assert (caught.value.strerror, caught.value.filename) == (text, None)


def test_an_unknown_limit_is_named_with_those_that_there_are():
    with pytest.raises(SpawnError, match=r"^\[Errno 22\] limits: no such limit: 'nofiles'; expected one of as, .*nofile"):
        output_of("true", privileges=Privileges(limits={"nofiles": (1, 2)}))
    assert limit_problem("nofile") is None
    assert limit_problem("NOFILE") is not None


@root
def test_without_the_right_to_it_who_we_are_already_is_nothing_to_be_done_and_all_else_an_error():
    script = """
import os, sys
sys.path.insert(0, sys.argv[1])
from dtee_async.core.policy import Privileges
from dtee_async.process.privileges import resolve
os.setgroups([]); os.setresgid(65534, 65534, 65534); os.setresuid(65534, 65534, 65534)
print(resolve(Privileges(user=65534)).steps, resolve(Privileges(group=65534)).steps, resolve(Privileges(user=0)).steps)
"""
    package = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
    output, status = output_of(sys.executable, "-B", "-c", script, package)
    assert (output, status) == ("[] [] ['groups 0', 'group 0', 'user 0']\n", 0)


@given(st.text(max_size=12))
def test_a_name_of_a_limit_is_known_or_told_to_be_wrong(name):
    assert (limit_problem(name) is None) == (hasattr(resource, f"RLIMIT_{name.upper()}") and name == name.lower())


@given(st.text(max_size=12) | st.integers())
def test_any_user_is_known_or_told_to_be_wrong(user):
    try:
        steps = resolve(Privileges(user=user)).steps
    except SpawnError as error:
        assert error.strerror.startswith("user: ")
    else:
        assert not steps or steps[-1].startswith("user ")


# Fds.

NAMES = "import os, sys; print(*(os.readlink(f'/proc/self/fd/{n}') for n in sys.argv[1:]), sorted(map(int, os.listdir('/proc/self/fd'))))"


@pytest.fixture
def files(tmp_path):
    """Three open files, by their names."""
    opened = {name: os.open(tmp_path / name, os.O_RDWR | os.O_CREAT) for name in ("a", "b", "c")}
    yield opened
    for fd in opened.values():
        os.close(fd)


def test_fds_get_the_numbers_that_are_asked_for_and_are_all_that_there_is(files, tmp_path):
    wanted = {3: files["a"], 7: files["b"], 8: files["b"]}
    output, status = output_of(*PYTHON, NAMES, "3", "7", "8", extra_fds=wanted)
    assert status == 0
    assert output.split(maxsplit=3) == [f"{tmp_path}/a", f"{tmp_path}/b", f"{tmp_path}/b", "[0, 1, 2, 3, 4, 7, 8]\n"]  # 4 is the listing


def test_fds_may_change_places_and_take_the_place_of_our_report(files, tmp_path):
    a, b, c = files.values()
    wanted = {a: b, b: c, c: a} | dict.fromkeys(range(c + 1, c + 12), a)
    output, status = output_of(*PYTHON, NAMES, str(a), str(b), str(c), str(c + 11), extra_fds=wanted)
    assert status == 0
    assert output.split()[:4] == [f"{tmp_path}/{name}" for name in "bcaa"]
    for fd, name in ((a, "a"), (b, "b"), (c, "c")):
        assert os.readlink(f"/proc/self/fd/{fd}") == f"{tmp_path}/{name}"
        assert not os.get_inheritable(fd)


def test_the_number_of_an_fd_may_be_above_the_soft_limit_which_stays(files, tmp_path):
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (60, limits[1]))
    try:
        output = output_of("sh", "-c", "readlink /proc/self/fd/1000; ulimit -n", extra_fds={1000: files["c"]})
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)
    assert output == (f"{tmp_path}/c\n60\n", 0)


def test_a_number_that_no_fd_can_have_is_an_error_that_says_so(files):
    with pytest.raises(SpawnError, match="fds: "):
        output_of("true", extra_fds={1 << 30: files["a"]})
    assert output_of("echo", "x", extra_fds={4: files["a"]}) == ("x\n", 0)
