"""How a command ended: the words for it, and the truth from real children."""

from __future__ import annotations

import os
import signal

import pytest

from dtee_async.core.exit import Exit, exit_from_wait, signal_text


def exit_of(script):
    pid = os.posix_spawn("/bin/sh", ["sh", "-c", script], os.environ)
    _, status, usage = os.wait4(pid, 0)
    return exit_from_wait(status, usage), usage


@pytest.mark.parametrize(("returncode", "status"), [(0, 0), (3, 3), (255, 255), (-2, 130), (-9, 137), (-15, 143), (-64, 192)])
def test_the_status_is_what_a_shell_shows(returncode, status):
    assert Exit(returncode).status == status


@pytest.mark.parametrize(("returncode", "number"), [(0, None), (143, None), (-15, 15)])
def test_only_a_death_by_a_signal_has_a_signal(returncode, number):
    assert Exit(returncode).signal == number


@pytest.mark.parametrize(
    ("exit", "words"),
    [
        (Exit(0), "make: exited with status 0"),
        (Exit(3), "make: exited with status 3"),
        (Exit(-15), "make: process terminated by signal 15: Terminated"),
        (Exit(-11, core_dumped=True), "make: process terminated by signal 11: Segmentation fault (core dumped)"),
        (Exit(-11), "make: process terminated by signal 11: Segmentation fault"),
    ],
)
def test_the_ending_is_worded_as_cronty_words_it(exit, words):
    assert exit.describe("make") == words


@pytest.mark.parametrize("number", sorted(signal.valid_signals()))
def test_every_signal_has_a_text(number):
    assert signal_text(number)


def test_a_real_child_that_exits_has_its_status():
    exit, _ = exit_of("exit 3")
    assert (exit.returncode, exit.signal, exit.status, exit.core_dumped) == (3, None, 3, False)


def test_a_real_child_that_is_killed_has_its_signal():
    exit, _ = exit_of("kill -TERM $$")
    assert (exit.returncode, exit.signal, exit.status, exit.core_dumped) == (-15, 15, 143, False)


def test_a_core_dump_is_seen_in_the_wait_status():
    _, usage = exit_of("exit 0")
    exit = exit_from_wait(signal.SIGSEGV | 0x80, usage)  # WCOREFLAG
    assert (exit.returncode, exit.core_dumped) == (-11, True)


def test_a_status_of_128_and_more_is_no_core_dump():
    exit, _ = exit_of("exit 139")
    assert (exit.returncode, exit.core_dumped, exit.status) == (139, False, 139)


def test_memory_is_in_bytes_and_time_in_seconds():
    exit, usage = exit_of("i=0; while [ $i -lt 20000 ]; do i=$((i+1)); done")
    assert exit.max_rss_bytes == usage.ru_maxrss * 1024 > 100_000
    assert (exit.user_s, exit.system_s) == (usage.ru_utime, usage.ru_stime)
    assert 0 < exit.user_s + exit.system_s < 60
