"""``--doctor``: each mode and each limit is named, with what to change; what is refused is said, and nothing of it is a failure."""

from __future__ import annotations

import os
import re
import resource
import subprocess
import sys

import pytest

from dtee_async.cli import doctor
from dtee_async.core.platforms import FACILITIES, platform_of

MODES = ("ordered", "turnstile", "pipe", "pty", "auto")
LIMITS = ("largest write in mode ordered", "queue in mode ordered", "largest pipe", "all pipes of one user", "open files")


def section(text, title):
    """The lines of a section by their first words, each with its remedy and gain: two spaces or more divide them."""
    found = {}
    for line in text.partition(f"{title}:\n")[2].partition("\n\n")[0].splitlines():
        first, *rest = re.split(r" {2,}", line.strip(), maxsplit=1) if not line.startswith(" " * 9) else ("", line.strip())
        if first:
            name = first
            found[name] = rest
        else:
            found[name] += rest
    return found


def modes(text):
    return {name: words[0] for name, words in section(text, "Capture modes").items()}


def told(cli, **options):
    done = cli("--doctor", **options)
    assert (done.returncode, done.stderr) == (0, b"")
    return done.stdout.decode()


def test_it_names_each_mode_each_limit_and_each_facility(cli):
    text = told(cli)
    assert text.startswith("dtee-async ")
    assert tuple(modes(text)) == MODES
    assert tuple(section(text, "Limits")) == LIMITS
    assert section(text, "This system has") == {name: ["yes"] for name in FACILITIES}


def test_each_remedy_has_its_gain(cli):
    for value, *more in section(told(cli, preexec_fn=lambda: limit_files(64)), "Limits").values():
        assert value
        assert [line.split(":")[0] for line in more] in ([], ["to change", "it buys"])


def test_it_runs_nothing_and_other_options_do_not_matter(cli, tmp_path):
    done = cli("--doctor", "--check", "-o", "file", "touch", "ran")
    assert (done.returncode, done.stderr, os.listdir(tmp_path)) == (0, b"", [])
    assert done.stdout.startswith(b"dtee-async ")


def test_what_each_mode_promises(cli):
    found = modes(told(cli))
    assert "exact order, complete" in found["ordered"]
    assert "not for node and /dev/stderr" in found["ordered"]
    assert "exact order, complete, for writes that do not overlap; tried: it " in found["turnstile"]
    assert found["pipe"] == "order by time of reading, complete"
    assert "one stream for both" in found["pty"]
    assert found["auto"].startswith("ordered, or ")


# Privileges.

AS_NOBODY = """
import os, sys
import dtee_async.transport.recvmmsg, dtee_async.transport.recvmsg, dtee_async.transport.seccomp
from dtee_async.cli.doctor import report
import platform
platform.uname()
if os.geteuid() == 0:
    os.setgroups([])
    os.setgid(65534)
    os.setuid(65534)
print(report(), end="")
"""


def test_without_privileges_a_turnstile_takes_no_new_privs():
    """The imports come first: nobody may be forbidden to read the folder that this Python is in."""
    environment = {name: value for name, value in os.environ.items() if name != "TMPDIR"}
    done = subprocess.run([sys.executable, "-c", AS_NOBODY], capture_output=True, text=True, env=environment)
    assert (done.returncode, done.stderr) == (0, "")
    words = "it works with no_new_privs; sudo, su and ping do not work in the command then"
    assert modes(done.stdout)["turnstile"].endswith(f"; tried: {words}")
    assert re.match(r"unlimited|[\d,]+ bytes: \d+ large ones", section(done.stdout, "Limits")["all pipes of one user"][0])


@pytest.mark.root
def test_with_privileges_it_takes_nothing():
    assert modes(doctor.report())["turnstile"].endswith("; tried: it works, and takes nothing away from the command")


def test_within_a_turnstile_there_is_none_and_that_is_said(cli):
    done = cli("--capture=turnstile", "dtee-async", "--doctor")
    assert done.returncode == 0
    reason = "a turnstile is around this process already"
    assert modes(done.stdout.decode())["turnstile"].endswith(f"; tried: it cannot be had: {reason}")


# Less of a system.


def test_without_any_facility_it_does_not_fail(cli):
    text = told(cli, env=os.environ | {"DTEE_ASYNC_WITHOUT": "all"})
    assert section(text, "This system has") == {name: ["no"] for name in FACILITIES}
    assert modes(text)["turnstile"].endswith("; tried: it cannot be had: this system has no seccomp")
    assert tuple(section(text, "Limits")) == ("largest write in mode ordered", "open files")


@pytest.mark.parametrize("name", FACILITIES)
def test_what_is_switched_off_is_not_there(cli, name):
    found = section(told(cli, env=os.environ | {"DTEE_ASYNC_WITHOUT": name}), "This system has")
    assert found == {each: ["no" if each == name else "yes"] for each in FACILITIES}


@pytest.mark.parametrize("name", ["freebsd14", "darwin", "cygwin", "gnu0", "unheard-of"])
def test_what_a_mode_does_not_promise_on_another_system_is_said(monkeypatch, name):
    monkeypatch.setattr(doctor, "HERE", platform_of(name))
    found = modes(doctor.report())
    assert found["turnstile"] == "not on this system"
    assert found["pipe"] == "order by time of reading, complete"
    assert "exact order, can lose output" in found["ordered"] or found["ordered"] == "not on this system"
    assert found["auto"].startswith("pipe, or ")


@pytest.mark.parametrize("how", ["missing", "too long"])
def test_a_folder_for_the_sockets_that_cannot_be_used_is_named(cli, tmp_path, how):
    folder = tmp_path / ("x" * 120)
    if how == "too long":
        folder.mkdir()
    text = told(cli, env=os.environ | {"TMPDIR": str(folder)})
    value, remedy, gain = section(text, "Limits")["largest write in mode ordered"]
    assert value.startswith(f"none: {folder}")
    assert "No such file or directory" in value if how == "missing" else "the path is too long" in value
    assert remedy == "to change: set TMPDIR to a folder that can be written and has a short path"
    assert gain == "it buys:   mode ordered"
    assert f"tried: it cannot be had: {folder}" in modes(text)["ordered"]


# Limits.


def limit_files(soft, hard=None):
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard or resource.getrlimit(resource.RLIMIT_NOFILE)[1]))


@pytest.mark.parametrize(("soft", "hard", "said"), [(256, 256, "256"), (256, 1024, "256; --jobs raises it to 1,024")])
def test_few_open_files_are_named_with_the_remedy(cli, soft, hard, said):
    if resource.getrlimit(resource.RLIMIT_NOFILE)[1] < hard:
        pytest.skip("the limit of this process is lower")
    text = told(cli, preexec_fn=lambda: limit_files(soft, hard))
    assert section(text, "Limits")["open files"] == [
        said,
        "to change: ulimit -n 8192 as root",
        "it buys:   more jobs at once: each takes 2 to 5, and one or two for each of its files",
    ]


@pytest.mark.parametrize(
    ("limits", "said"),
    [
        ((8192, 8192), "8,192"),
        ((1024, 8192), "1,024; --jobs raises it to 8,192"),
        ((resource.RLIM_INFINITY, resource.RLIM_INFINITY), "unlimited"),
        ((1024, resource.RLIM_INFINITY), "1,024; --jobs raises it to unlimited"),
    ],
)
def test_a_limit_of_open_files_that_jobs_can_raise_needs_no_remedy(monkeypatch, limits, said):
    monkeypatch.setattr(resource, "getrlimit", lambda which: limits)
    assert section(doctor.report(), "Limits")["open files"] == [said]


@pytest.mark.parametrize(
    ("numbers", "limit", "said"),
    [
        ({"net/unix/max_dgram_qlen": 10}, "queue in mode ordered", ["11 writes", "sysctl net.unix.max_dgram_qlen=512"]),
        ({"net/unix/max_dgram_qlen": 512}, "queue in mode ordered", ["513 writes"]),
        ({"fs/pipe-max-size": 65536}, "largest pipe", ["65,536 bytes", "sysctl fs.pipe-max-size=1048576"]),
        ({"fs/pipe-max-size": 1 << 20}, "largest pipe", ["1,048,576 bytes"]),
        ({"fs/pipe-user-pages-soft": 0}, "all pipes of one user", ["unlimited"]),
        ({"fs/pipe-user-pages-soft": 16384}, "all pipes of one user", ["67,108,864 bytes: 64 large ones"]),
    ],
)
def test_a_limit_of_the_kernel_is_told_and_a_low_one_has_a_remedy(monkeypatch, numbers, limit, said):
    monkeypatch.setattr(doctor, "_read", numbers.get)
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    monkeypatch.setattr(resource, "getpagesize", lambda: 4096)
    value, *more = section(doctor.report(), "Limits")[limit]
    assert value == said[0]
    assert more[:1] == [f"to change: {remedy}" for remedy in said[1:]]


def test_numbers_that_cannot_be_read_are_left_out(monkeypatch):
    monkeypatch.setattr(doctor, "_read", lambda name: None)
    assert tuple(section(doctor.report(), "Limits")) == ("largest write in mode ordered", "open files")


@pytest.mark.parametrize(
    ("largest", "wmem_max", "remedy"),
    [
        (425_952, 212_992, ["to change: sysctl net.core.wmem_max=2135904 (now 212992)"]),
        (425_952, None, ["to change: sysctl net.core.wmem_max=2135904"]),  # not shown in some containers
        (doctor.LARGEST_BYTES, 212_992, []),
    ],
)
def test_a_small_send_buffer_has_a_remedy(monkeypatch, largest, wmem_max, remedy):
    monkeypatch.setattr(doctor, "_largest_ordered", lambda: largest)
    monkeypatch.setattr(doctor, "_read", lambda name: wmem_max)
    value, *more = section(doctor.report(), "Limits")["largest write in mode ordered"]
    assert value == f"{largest:,} bytes"
    assert more[:1] == remedy


def test_the_remedy_of_a_small_send_buffer_is_enough():
    """The kernel doubles it, and the largest write is the result less 32."""
    assert doctor.LARGEST_BYTES <= 2 * 2_135_904 - 32
