"""examples/stack with its real programs: from cold to ready, a worker killed and back, stopped in reverse order, and nothing left."""

import json
import os
import re
import select
import shutil
import signal
import socket
import subprocess
import sys
import urllib.request
import uuid
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
BIN = str(Path(sys.executable).parent)
NEEDED = ("redis-server", "redis-cli", "node", "curl")
SERVICES = ("redis", "assets", "web", "worker-1", "worker-2")
HTTP_S = 30
GONE_S = 5

pytestmark = pytest.mark.skipif(any(shutil.which(name) is None for name in NEEDED), reason=f"needs {', '.join(NEEDED)}")


class Stack:
    """A copy of the example, with ports of its own. What it says is read line by line, and so waited for."""

    def __init__(self, folder, loop_name):
        self.folder = folder / "stack"
        shutil.copytree(ROOT / "examples" / "stack", self.folder, ignore=_not_made_by_a_run)
        self.port, self.redis_port = _free_ports(2)
        self.mark = uuid.uuid4().hex
        self.words = [f"{BIN}/dtee-async", "--jobs", f"{self.folder}/jobs.toml", "--log-format", "json", "--loop", loop_name]
        self.environment = {name: value for name, value in os.environ.items() if name not in ("FORCE_COLOR", "PORT", "REDIS_PORT")} | {
            "PATH": f"{BIN}:{os.environ['PATH']}",
            "STACK_PORT": str(self.port),
            "STACK_REDIS_PORT": str(self.redis_port),
            "STACK_MARK": self.mark,
        }
        self.events = []
        self.process = None

    def run(self, *words):
        return subprocess.run([*self.words, *words], env=self.environment, stdin=subprocess.DEVNULL, capture_output=True, text=True)

    def __enter__(self):
        self.process = subprocess.Popen(
            self.words, env=self.environment, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )
        return self

    def __exit__(self, *_):
        if self.process.poll() is None:
            self.stop(signal.SIGQUIT)
        self.process.stdout.close()

    def stop(self, number):
        """The status."""
        self.process.send_signal(number)
        while self.read() is not None:
            pass
        return self.process.wait()

    def read(self):
        """The next line, as a job or the log has it: an event too, in its place. None at the end."""
        line = self.process.stdout.readline()
        if line.startswith("{"):
            self.events.append(json.loads(line))
        return line or None

    def read_until_said(self, pattern):
        while (line := self.read()) is not None:
            if found := re.search(pattern, line):
                return found
        raise AssertionError(f"it ended, and had not said {pattern}")

    def read_until(self, *wanted):
        while not all(any(wish.items() <= event.items() for event in self.events) for wish in wanted):
            assert self.read() is not None, f"it ended before {wanted}: {self.events}"

    def place(self, event, job, **fields):
        """When that was: its number in the log."""
        wish = {"event": f"job {event}", "job": job, **fields}
        return next(number for number, one in enumerate(self.events) if wish.items() <= one.items())

    def ask(self, path, data=None):
        with urllib.request.urlopen(f"http://127.0.0.1:{self.port}{path}", data, HTTP_S) as answer:
            return answer.read().decode()

    def redis(self, *words):
        command = ["redis-cli", "-p", str(self.redis_port), *words]
        return subprocess.run(command, capture_output=True, text=True, check=True, timeout=HTTP_S).stdout.splitlines()

    def totals(self):
        return [int(total) for total in re.findall(r"\d+(?= words| texts| visits)", self.ask("/"))]

    def left(self):
        """The processes of this run, whoever's children they are by now, that are still there after a moment."""
        return [name for pid, name in _processes(f"STACK_MARK={self.mark}", self.folder) if not _is_gone(pid)]


def _not_made_by_a_run(path, names):
    return [name for name in names if name == "__pycache__" or (Path(path).name == "out" and name != ".gitignore")]


def _free_ports(count):
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [one.getsockname()[1] for one in sockets]
    for one in sockets:
        one.close()
    return ports


def _processes(variable, place):
    """Those that carry the variable, or are in that folder: Redis writes its title over its environment."""
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            carries = variable.encode() in (folder / "environ").read_bytes().split(b"\0")
            if carries or (folder / "cwd").readlink().is_relative_to(place):
                yield int(folder.name), (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode()
        except OSError:  # it has gone meanwhile, or is another user's
            continue


def _is_gone(pid):
    """Within a moment: who stands by until we have ended ends after us."""
    try:
        pidfd = os.pidfd_open(pid)
    except ProcessLookupError:
        return True
    try:
        return bool(select.select([pidfd], [], [], GONE_S)[0])
    finally:
        os.close(pidfd)


@pytest.fixture
def stack(tmp_path, loop_name):
    return Stack(tmp_path, loop_name)


def test_the_order_of_the_starts(stack):
    done = stack.run("--check")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines()[1:] == ["1. redis assets", "2. migrate", "3. web worker-1 worker-2"]


def test_from_cold_to_ready_a_worker_killed_and_back_and_a_stop_in_reverse_order(stack):
    with stack:
        is_ready(stack)
        counts_in_the_database(stack)
        builds_again(stack)
        worker_comes_back(stack)
        assert stack.stop(signal.SIGINT) == -signal.SIGINT
    ended_in_reverse_order(stack)
    log = (stack.folder / "out" / "worker-1.log").read_text()
    assert log.endswith("taking up again a text that was not counted to its end\ncounted 7 words\n")
    nothing_is_left(stack)


def is_ready(stack):
    stack.read_until(*({"event": "job ready", "job": job} for job in SERVICES))
    migrated = stack.place("exited", "migrate", status=0)
    assert stack.place("ready", "redis") < stack.place("started", "migrate") < migrated
    assert stack.place("ready", "assets") < stack.place("started", "web")
    assert migrated < min(stack.place("started", job) for job in ("web", "worker-1", "worker-2"))
    assert max(stack.place("started", job) for job in ("redis", "assets")) < stack.place("ready", "redis")
    node = stack.events[stack.place("started", "assets")]
    assert node["capture"] in ("turnstile", "pipe")
    assert node["reason"].startswith("runs node")


def counts_in_the_database(stack):
    assert stack.totals() == [0, 0, 1]
    answer = json.loads(stack.ask("/texts", "drei kleine Wörter".encode()))
    assert (answer["words"], answer["by"] in ("worker-1", "worker-2")) == (3, True)
    assert stack.totals() == [3, 1, 2]
    assert stack.redis("MGET", "total:words", "total:texts", "total:visits", "version") == ["3", "1", "2", "2"]


def builds_again(stack):
    (stack.folder / "assets" / "style.css").write_text("p { color: red; }\n")
    name = stack.read_until_said(r"^assets +\| built (style\.\w+\.css), 18 -> 13 characters\n")[1]
    assert f"href=/{name}>" in stack.ask("/")
    assert stack.ask(f"/{name}") == "p{color:red;}"


def worker_comes_back(stack):
    """It dies with a text that it has taken and not counted."""
    pid = stack.events[stack.place("started", "worker-1")]["pid"]
    os.kill(pid, signal.SIGSTOP)
    stack.redis("RPUSH", "texts:worker-1", json.dumps({"number": "left", "text": "not counted yet, and then it is"}))
    os.kill(pid, signal.SIGKILL)
    stack.read_until({"event": "job ready", "job": "worker-1", "attempt": 2})
    killed = stack.place("exited", "worker-1", signal="SIGKILL")
    assert killed < stack.place("restarting", "worker-1") < stack.place("started", "worker-1", attempt=2)
    assert stack.events[stack.place("started", "worker-1", attempt=2)]["pid"] != pid
    answer = stack.redis("BLPOP", "answer:left", str(HTTP_S))[1]
    assert json.loads(answer) == {"words": 7, "by": "worker-1"}
    assert stack.totals()[:2] == [10, 2]


def test_the_database_is_killed_and_all_of_it_comes_back_with_its_data(stack):
    with stack:
        stack.read_until(*({"event": "job ready", "job": job} for job in SERVICES))
        stack.ask("/texts", b"one two")
        os.kill(stack.events[stack.place("started", "redis")]["pid"], signal.SIGKILL)
        stack.read_until({"event": "job ready", "job": "redis", "attempt": 2})
        assert json.loads(stack.ask("/texts", b"three"))["words"] == 1
        assert stack.totals() == [3, 2, 1]
        assert stack.stop(signal.SIGTERM) == -signal.SIGTERM
    nothing_is_left(stack)


def ended_in_reverse_order(stack):
    ended = {job: stack.place("exited", job) for job in ("redis", "assets", "web", "worker-2")}
    ended["worker-1"] = stack.place("exited", "worker-1", attempt=2)
    told = next(number for number, event in enumerate(stack.events) if event["event"] == "stopping all jobs")
    assert told < min(ended.values())
    assert max(ended["web"], ended["worker-1"], ended["worker-2"]) < ended["redis"]
    assert ended["web"] < ended["assets"]
    summary = {event["job"]: (event["state"], event["restarts"]) for event in stack.events if event["event"] == "job summary"}
    assert summary == dict.fromkeys([*SERVICES, "migrate"], ("Completed", 0)) | {"worker-1": ("Completed", 1)}


def nothing_is_left(stack):
    assert stack.left() == []
    for port in (stack.port, stack.redis_port):
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(("127.0.0.1", port))


def test_one_job_uses_all_of_it_and_ends_the_run_and_the_data_is_there_the_next_time(stack):
    for version in (0, 2):
        done = stack.run("smoke")
        assert done.returncode == 0, done.stderr
        assert 'smoke    | {"words": 7, "by": "worker-' in done.stdout
        assert f"migrate  | the data has version {version} of 2\n" in done.stdout
        nothing_is_left(stack)


def test_a_migration_that_fails_is_the_end_of_the_run(stack):
    (stack.folder / "migrate.py").write_text("raise SystemExit(3)\n")
    done = stack.run()
    assert done.returncode == 3, done.stderr
    events = [json.loads(line) for line in done.stderr.splitlines() if line.startswith("{")]
    assert {event["job"] for event in events if event["event"] == "job skipped"} == {"web", "worker-1", "worker-2"}
    assert {event["job"] for event in events if event["event"] == "job started"} == {"redis", "assets", "migrate"}
    nothing_is_left(stack)
