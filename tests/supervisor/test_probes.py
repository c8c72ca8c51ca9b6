"""Probes: each check by real programs and servers, what Kubernetes says of their times, and that nothing is left of a check, whatever ends it."""

import asyncio
import contextlib
import os
import socket
import subprocess
import sys
import time

import anyio
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dtee_async.core.policy import ExecCheck, HttpCheck, Probe, TcpCheck
from dtee_async.core.spec import JobSpec
from dtee_async.supervisor import probes
from dtee_async.supervisor.probes import Prober, Thresholds, Verdict, open_check

ENOUGH_S = 10
SERVER = """
import http.server, sys
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        if self.path == "/silent":
            self.rfile.read()
            return
        self.send_response(200 if self.headers["X-Wanted"] == "yes" else int(self.path[1:]))
        self.send_header("Location", "/500")
        self.end_headers()
        if self.path == "/206":
            while True:
                self.wfile.write(b"x" * 65536)
    def log_message(self, *words): pass
server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
print(server.server_port, flush=True)
server.serve_forever()
"""


@pytest.fixture
async def no_orphan_tasks(no_orphan_tasks):
    """libuv has an fd of its own from the first stream of a loop on: it is to be there before the fds are counted."""
    ours, theirs = socket.socketpair()
    with theirs:
        _, writer = await asyncio.open_unix_connection(sock=ours)
        writer.close()
        await writer.wait_closed()


@pytest.fixture
def server():
    """The port of an HTTP server in another process: /NUMBER is answered with that status, /silent never, and /206 without end."""
    with subprocess.Popen([sys.executable, "-I", "-c", SERVER], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as process:
        yield int(process.stdout.readline())
        process.kill()


@pytest.fixture
def mute():
    """The port of a listener that takes no connection: its queue is full."""
    with contextlib.ExitStack() as stack:
        listener = stack.enter_context(socket.create_server(("127.0.0.1", 0), backlog=0))
        for _ in range(4):
            client = stack.enter_context(socket.socket())
            client.setblocking(False)
            client.connect_ex(listener.getsockname())
        yield listener.getsockname()[1]


def free_port():
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return listener.getsockname()[1]


def opened(check, **spec):
    return open_check(asyncio.get_running_loop(), Probe(check), JobSpec("job", "true", **spec))


async def against(check, timeout_s=ENOUGH_S, **spec):
    return await opened(check, **spec)(timeout_s)


# exec


async def test_exec_passes_with_status_0():
    assert await against(ExecCheck("exit 0")) == ""
    assert await against(ExecCheck(["true"])) == ""


@pytest.mark.parametrize(
    ("command", "expected"),
    [
        ("exit 3", "exit 3: exited with status 3"),
        (["sh", "-c", "exit 3"], "sh -c 'exit 3': exited with status 3"),
        ("echo 1; echo 2 >&2; echo 3; false", "echo 1; echo 2 >&2; echo 3; false: exited with status 1: 1\n2\n3"),
        ("printf '\\377'; false", "printf '\\377'; false: exited with status 1: \\xff"),
        ("kill -9 $$", "kill -9 $$: process terminated by signal 9: Killed"),
        (["/nonexistent/program"], "/nonexistent/program: No such file or directory"),
        (["/etc/passwd"], "/etc/passwd: Permission denied"),
    ],
)
async def test_exec_says_what_happened_and_what_the_command_said(command, expected):
    assert await against(ExecCheck(command)) == expected


async def test_of_much_output_the_last_whole_lines_are_kept():
    said = await against(ExecCheck("seq 100000; false"))
    lines = said.removeprefix("seq 100000; false: exited with status 1: ").split("\n")
    assert lines == [str(number) for number in range(100001 - len(lines), 100001)]
    assert probes.TAIL_BYTES - 8 < len("\n".join(lines)) < probes.TAIL_BYTES
    assert len(await against(ExecCheck("head -c 100000 /dev/zero | tr '\\0' x; false"))) > probes.TAIL_BYTES


async def test_exec_has_the_environment_and_the_directory_of_the_job(tmp_path):
    (tmp_path / "inner").mkdir()
    where = ExecCheck('[ "$PWD:$WORD" = "$WANTED" ]')
    job = {"working_dir": str(tmp_path), "environment": os.environ | {"WORD": "word", "WANTED": f"{tmp_path}:word"}}
    assert await against(where, **job) == ""
    assert await against(ExecCheck(where.command, str(tmp_path / "inner")), **job) != ""
    assert "nonexistent" in await against(ExecCheck("true", "/nonexistent"))


async def test_a_command_that_takes_too_long_is_ended_with_its_whole_group(fifo):
    path = fifo("fifo")
    said = await against(ExecCheck(f"exec 7<>{path}; echo hello; trap '' TERM; sleep 100 & sleep 100"), 0.5)
    assert said.endswith("no answer within 0.5 s: hello")
    await ended(path)


@pytest.mark.parametrize("command", ["yes", "exec >&- 2>&-; sleep 100"])
async def test_neither_a_flood_nor_an_end_of_its_output_keeps_the_loop(command):
    turns = 0

    async def count():
        nonlocal turns
        while True:
            turns += 1
            await anyio.sleep(0.01)

    async with anyio.create_task_group() as group:
        group.start_soon(count)
        begun_s, begun_cpu_s = anyio.current_time(), time.process_time()
        assert "no answer within 0.3 s" in await against(ExecCheck(command), 0.3)
        assert anyio.current_time() - begun_s < 2
        if command != "yes":
            assert time.process_time() - begun_cpu_s < 0.2  # it waits, and does not turn in circles
        group.cancel_scope.cancel()
    assert turns > 5


async def test_what_a_command_leaves_in_its_group_is_ended_too(fifo):
    """And it does not keep the check waiting, though it holds the command's stdout open."""
    path = fifo("fifo")
    assert await against(ExecCheck(f"exec 7<>{path}; sleep 100 &")) == ""
    await ended(path)


async def ended(path):
    """Until nobody has the FIFO open for writing."""
    fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    try:
        with contextlib.suppress(BlockingIOError):
            while os.read(fd, 1):
                pass
            return
        with anyio.fail_after(ENOUGH_S):
            await anyio.wait_readable(fd)
        assert os.read(fd, 1) == b""
    finally:
        os.close(fd)


async def test_a_command_that_even_kill_does_not_end_is_reaped_when_it_has_ended(monkeypatch, fifo):
    monkeypatch.setattr(probes, "AFTER_KILL_S", 0.05)
    monkeypatch.setattr(probes, "signal_group", lambda *_: True)
    path = fifo("fifo")
    assert "no answer within 0.05 s" in await against(ExecCheck(f"cat {path}"), 0.05)
    assert len(open_children()) == 1
    os.close(os.open(path, os.O_WRONLY))
    await no_children()


async def no_children():
    with anyio.fail_after(ENOUGH_S):
        while open_children():
            await anyio.lowlevel.checkpoint()


def open_children():
    with open("/proc/thread-self/children") as file:
        return file.read().split()


async def test_without_an_fd_it_says_so(monkeypatch):
    def fail(*_):
        raise OSError(24, "Too many open files")

    check = opened(ExecCheck("true"))
    monkeypatch.setattr(os, "pipe", fail)
    assert await check(1) == "true: Too many open files"


# tcp


async def test_tcp_passes_when_it_is_connected(server):
    assert await against(TcpCheck(server)) == ""


async def test_tcp_to_a_host_that_is_not_there_says_so():
    assert (await against(TcpCheck(1, "nowhere.invalid"))).startswith("nowhere.invalid:1: ")
    await asyncio.get_running_loop().shutdown_default_executor()  # names are looked up in its threads


async def test_tcp_says_why_not(mute):
    port = free_port()
    assert await against(TcpCheck(port)) == f"127.0.0.1:{port}: Connection refused"
    assert await against(TcpCheck(mute), 0.05) == f"127.0.0.1:{mute}: no answer within 0.05 s"


# http


@pytest.mark.parametrize(
    ("status", "wanted", "passes"), [(200, 0, 1), (302, 0, 1), (404, 0, 0), (500, 0, 0), (404, 404, 1), (200, 204, 0), (206, 0, 1)]
)
async def test_http_passes_by_its_status(server, status, wanted, passes):
    url = f"http://127.0.0.1:{server}/{status}"
    assert await against(HttpCheck(url, {}, wanted)) == ("" if passes else f"{url}: HTTP status {status}")


async def test_http_has_its_headers_and_no_proxy(server, monkeypatch):
    monkeypatch.setenv("HTTP_PROXY", f"http://127.0.0.1:{free_port()}")
    url = f"http://127.0.0.1:{server}/403"
    assert await against(HttpCheck(url, {"X-Wanted": "yes"}, 200)) == ""
    assert await against(HttpCheck(url, {"X-Wanted": "no"}, 200)) == f"{url}: HTTP status 403"


async def test_http_says_why_not(server, mute):
    port = free_port()
    assert await against(HttpCheck(f"http://127.0.0.1:{port}/", {})) == f"http://127.0.0.1:{port}/: Connection refused"
    for url in (f"http://127.0.0.1:{server}/silent", f"http://127.0.0.1:{mute}/"):
        assert await against(HttpCheck(url, {}), 0.05) == f"{url}: no answer within 0.05 s"


@pytest.mark.parametrize(
    "check",
    [
        HttpCheck("nonsense", {}),
        HttpCheck("gopher://127.0.0.1/", {}),
        HttpCheck("http://127.0.0.1:99999/", {}),
        HttpCheck("http://[::/", {}),
        HttpCheck("http://127.0.0.1:1/", {"X": "\xff\u20ac"}),
        HttpCheck("http://127.0.0.1:1/", {"X": "a\nb"}),
        TcpCheck(1, "\0"),
        TcpCheck(1, "x" * 300),
        ExecCheck(["tr\0ue"]),
        ExecCheck([""]),
    ],
)
async def test_nonsense_is_a_failure_in_words(check):
    assert await against(check) != ""
    await asyncio.get_running_loop().shutdown_default_executor()


# Thresholds and times


@given(st.integers(1, 4), st.integers(1, 4), st.lists(st.booleans(), max_size=30))
def test_the_verdict_changes_after_so_many_answers_in_a_row(successes, failures, answers):
    thresholds = Thresholds(successes, failures)
    verdict = None
    for end in range(1, len(answers) + 1):
        for value, needed in ((True, successes), (False, failures)):
            if answers[:end][-needed:] == [value] * needed and verdict != value:
                verdict = value
                assert thresholds.changed_by(answers[end - 1])
                break
        else:
            assert not thresholds.changed_by(answers[end - 1])


class Script:
    """A check that answers as it is told, and knows when it was asked."""

    def __init__(self, *answers, takes_s=0):
        self.answers, self.asked_s, self.at_once, self.takes_s = iter(answers), [], 0, takes_s

    async def __call__(self, timeout_s):
        assert self.at_once == 0
        self.at_once += 1
        self.asked_s.append(anyio.current_time())
        await anyio.sleep(self.takes_s)
        self.at_once -= 1
        return next(self.answers)


async def test_the_times_are_kept():
    script = Script(*["no"] * 5)
    begun_s = anyio.current_time()
    prober = Prober(Probe(None, initial_delay_seconds=0.2, period_seconds=0.1, failure_threshold=5), script, begun_s)
    assert await prober.wait_change() == Verdict(False, "no")
    for number, asked_s in enumerate(script.asked_s):
        assert asked_s - begun_s > 0.195 + 0.095 * number
    assert script.asked_s[-1] - begun_s < 2


async def test_the_initial_delay_counts_from_the_beginning_of_the_attempt():
    begun_s = anyio.current_time() - 3600
    with anyio.fail_after(ENOUGH_S):
        assert await Prober(Probe(None, initial_delay_seconds=3600), Script(""), begun_s).wait_change() == Verdict(True)


async def test_a_check_that_takes_longer_than_the_period_is_followed_by_the_next_at_once():
    script = Script(*["no"] * 3, takes_s=0.1)
    await Prober(Probe(None, period_seconds=0.05, failure_threshold=3), script, 0).wait_change()
    assert all(0.09 < later - sooner < 1 for sooner, later in zip(script.asked_s, script.asked_s[1:], strict=False))


async def test_the_period_is_from_beginning_to_beginning():
    script = Script(*["no"] * 4, takes_s=0.2)
    await Prober(Probe(None, period_seconds=0.25, failure_threshold=4), script, 0).wait_change()
    assert script.asked_s[-1] - script.asked_s[0] < 3 * 0.45


@pytest.fixture
def tcp_check(mute):
    return TcpCheck(mute)


@pytest.fixture
def silent_check(server):
    return HttpCheck(f"http://127.0.0.1:{server}/silent", {})


# Whatever ends it, nothing is left: the fixtures that all tests have look for fds, tasks, threads and children


@pytest.mark.parametrize("native", [False, True], ids=["anyio", "asyncio"])
@pytest.mark.parametrize("delay_s", [0, 0.001, 0.01, 0.1])
@pytest.mark.parametrize("kind", ["exec", "tcp", "silent"])
async def test_a_check_that_is_cancelled_leaves_nothing(request, kind, delay_s, native):
    make = opened(ExecCheck("sleep 100 & echo; sleep 100") if kind == "exec" else request.getfixturevalue(f"{kind}_check"))
    if native:
        task = asyncio.create_task(make(ENOUGH_S))
        await asyncio.sleep(delay_s)
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task
    else:
        with anyio.move_on_after(delay_s):
            await make(ENOUGH_S)
    if kind == "exec":
        await no_children()
