"""What is known of each system, and what is promised on it."""

import io
import os
import select
import subprocess
import sys

import pytest

from dtee_async.core import platforms
from dtee_async.core.platforms import FACILITIES, HERE, LINUX, NOTHING, PLATFORMS, UNKNOWN, default_mode, has, platform_of, promise

SYSTEMS = ["linux", "freebsd14", "openbsd7", "netbsd10", "dragonfly6", "darwin", "cygwin", "gnu0", "sunos5"]
MODES = ["ordered", "turnstile", "pipe", "pty"]
EXACT, LOSSLESS, NEITHER, BOTH = (True, False), (False, True), (False, False), (True, True)


def test_every_system_is_found_by_its_name_and_no_other():
    assert [platform_of(name) for name in SYSTEMS] == [*PLATFORMS, UNKNOWN]
    assert HERE is LINUX


@pytest.mark.parametrize("name", SYSTEMS)
def test_sizes_are_at_least_those_of_a_pipes_atomic_write_and_of_stdio(name):
    platform = platform_of(name)
    for size in (platform.send_buffer_bytes, platform.receive_buffer_bytes):
        assert size is None or size >= max(select.PIPE_BUF, io.DEFAULT_BUFFER_SIZE, 8192)
    assert platform.send_buffer_bytes is None or 0 <= platform.safe_write_bytes <= platform.send_buffer_bytes
    assert platform.address_bytes >= 104
    assert platform.loss_option is None or platform.reports_loss


@pytest.mark.parametrize(
    ("name", "promises"),
    [
        ("linux", [BOTH, BOTH, LOSSLESS, BOTH]),
        ("freebsd14", [EXACT, NEITHER, LOSSLESS, EXACT]),
        ("openbsd7", [EXACT, NEITHER, LOSSLESS, EXACT]),
        ("netbsd10", [EXACT, NEITHER, LOSSLESS, EXACT]),
        ("dragonfly6", [EXACT, NEITHER, LOSSLESS, EXACT]),
        ("darwin", [EXACT, NEITHER, LOSSLESS, EXACT]),
        ("cygwin", [EXACT, NEITHER, LOSSLESS, EXACT]),
        ("gnu0", [NEITHER, NEITHER, LOSSLESS, EXACT]),
        ("sunos5", [NEITHER, NEITHER, LOSSLESS, EXACT]),
    ],
)
def test_what_each_mode_promises_on_each_system(name, promises):
    assert [promise(platform_of(name), mode) for mode in MODES] == promises


@pytest.mark.parametrize("name", SYSTEMS)
def test_auto_is_ordered_only_where_that_promises_everything_and_never_loses(name):
    platform = platform_of(name)
    assert default_mode(platform) == ("ordered" if name == "linux" else "pipe")
    exact, lossless = promise(platform, default_mode(platform))
    assert lossless


def test_a_mode_that_is_none_is_an_error():
    with pytest.raises(ValueError, match="other"):
        promise(LINUX, "other")


@pytest.mark.parametrize("name", [name for name in SYSTEMS if not platform_of(name).blocks])
def test_a_system_that_loses_silently_promises_no_losslessness_in_ordered(name):
    exact, lossless = promise(platform_of(name), "ordered")
    assert not lossless


def test_without_addresses_nothing_is_promised():
    assert promise(LINUX._replace(addressed=False), "ordered") == NOTHING


def test_linux_has_every_facility():
    assert all(has(facility) for facility in FACILITIES)
    with pytest.raises(KeyError):
        has("no such facility")


@pytest.mark.parametrize("facility", FACILITIES)
def test_each_is_switched_off_alone(monkeypatch, facility):
    monkeypatch.setattr(platforms, "switched_off", frozenset([facility]))
    assert [each for each in FACILITIES if not has(each)] == [facility]


@pytest.mark.parametrize(
    ("value", "off"), [("", []), ("pidfd,proc", ["pidfd", "proc"]), ("nonsense,proc", ["proc"]), ("all", [*FACILITIES])]
)
def test_the_environment_switches_them_off_and_unknown_names_do_no_harm(value, off):
    code = "from dtee_async.core.platforms import *; print(*[name for name in FACILITIES if not has(name)])"
    environment = os.environ | {"DTEE_ASYNC_WITHOUT": value}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.split() == off
