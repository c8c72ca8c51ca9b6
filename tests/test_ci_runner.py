"""examples/ci_runner as a program, in a real browser: output live and in order, two builds at once, a cancel, pages that come late or do not read."""

import os
import re
import select
import shutil
import signal
import socket
import subprocess
import sys
import textwrap
import urllib.error
import urllib.request
import uuid
from pathlib import Path

import pytest
from playwright.sync_api import expect, sync_playwright

ROOT = Path(__file__).parent.parent
PROGRAM = ROOT / "examples" / "ci_runner" / "ci_runner.py"
CHROMIUM = shutil.which("chromium")
GONE_S = 5
EXPECT_MS = 20_000
FLOOD_LINES, LINE = 250_000, "0123456789" * 50  # so much that the kernel cannot keep for a page what that does not read
KEPT_CHARACTERS = 128 * 1024

needs_chromium = pytest.mark.skipif(CHROMIUM is None, reason="needs chromium: scripts/system-packages installs it")


class Served:
    """The runner, in a folder of its own; its builds have our mark in their environment."""

    def __init__(self, folder):
        self.folder = folder
        self.mark = f"CI_RUNNER_MARK={uuid.uuid4().hex}"
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.port = free.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}/"

    def __enter__(self):
        name, value = self.mark.split("=")
        environment = os.environ | {name: value, "PYTHONUNBUFFERED": "1", "PYTHONWARNINGS": "error"}
        self.process = subprocess.Popen(
            [sys.executable, PROGRAM, str(self.port)],
            cwd=self.folder,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        assert self.url.rstrip("/") in self.process.stdout.readline()
        assert self.process.stdout.readline() == "(Press CTRL+C to quit)\n"
        return self

    def __exit__(self, *_):
        if self.process.returncode is None:
            assert self.stop(signal.SIGINT) == (0, "")

    def stop(self, number):
        """The status, and what it has said since it serves."""
        self.process.send_signal(number)
        said = self.process.communicate(timeout=30)[0]
        return self.process.returncode, said

    def ask(self, path, data=None, **headers):
        request = urllib.request.Request(f"{self.url}{path}", data, headers)
        with urllib.request.urlopen(request, timeout=10) as answer:
            return answer.status

    def processes(self):
        """All with our mark, whoever's children they are."""
        found = []
        for folder in Path("/proc").glob("[0-9]*"):
            try:
                if self.mark.encode() in (folder / "environ").read_bytes().split(b"\0"):
                    found.append((int(folder.name), (folder / "cmdline").read_bytes()))
            except OSError:  # it has gone meanwhile
                continue
        return found

    def left(self):
        """Those that are still there after a moment: who stands by until the runner has ended ends after it."""
        return [words for pid, words in self.processes() if not _is_gone(pid)]


def _is_gone(pid):
    try:
        pidfd = os.pidfd_open(pid)
    except ProcessLookupError:
        return True
    try:
        return bool(select.select([pidfd], [], [], GONE_S)[0])
    finally:
        os.close(pidfd)


@pytest.fixture
def served(tmp_path):
    with Served(tmp_path) as served:
        yield served


@pytest.fixture
def browser(served):
    """One for each test: what a test leaves is its own fault. Ended before the runner is."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, chromium_sandbox=os.geteuid() != 0)
        yield browser
        browser.close()


@pytest.fixture
def page(browser, served):
    return opened(browser, served)


def opened(browser, served):
    expect.set_options(timeout=EXPECT_MS)
    page = browser.new_page()
    page.goto(served.url)
    return page


def submit(page, command):
    page.get_by_label("Command").fill(command)
    page.get_by_role("button", name="Build").click()


def state(page, number):
    return page.locator(f"#build-{number} output")


def has_written(page, number, *writes):
    """These writes are shown and no other ones, in this order; each is a stream and a text."""
    spans = page.locator(f"#build-{number} pre span")
    expect(spans).to_have_text([text for _, text in writes])
    expect(spans).to_have_class([stream for stream, _ in writes])


@needs_chromium
def test_writes_are_shown_live_in_their_order_and_told_apart_and_then_the_end(served, page, fifo):
    gate = fifo("gate")
    submit(page, "echo compiling; echo 'warning: x is unused' >&2; echo linking; read go <gate; echo 'no space left' >&2; exit 3")
    first = ("STDOUT", "compiling"), ("STDERR", "warning: x is unused"), ("STDOUT", "linking")
    has_written(page, 1, *first)
    expect(state(page, 1)).to_have_text("running")
    out, err = (page.locator(f"#build-1 .{stream}").first for stream in ("STDOUT", "STDERR"))
    assert colour(out) != colour(err)
    gate.write_text("go\n")
    has_written(page, 1, *first, ("STDERR", "no space left"))
    expect(state(page, 1)).to_have_text(re.compile(r"^failed: status 3, \d+\.\d\d s$"))
    submit(page, "sleep 0.3")
    expect(state(page, 2)).to_have_text(re.compile(r"^passed: status 0, 0\.[3-9]\d s$"))


def colour(locator):
    return locator.evaluate("element => getComputedStyle(element).color")


@needs_chromium
def test_two_builds_run_at_once_the_third_is_queued_and_a_page_that_comes_late_sees_what_was_before(served, browser, page, fifo):
    gates = [fifo("gate1"), fifo("gate2")]
    for number in (1, 2):
        submit(page, f"echo begun {number}; read go <gate{number}; echo ended {number} >&2")
    for number in (1, 2):
        has_written(page, number, ("STDOUT", f"begun {number}"))
        expect(state(page, number)).to_have_text("running")
    submit(page, "echo third")
    expect(state(page, 3)).to_have_text("queued")
    late = opened(browser, served)
    has_written(late, 2, ("STDOUT", "begun 2"))
    has_written(late, 3)
    gates[1].write_text("go\n")
    for each in (page, late):
        has_written(each, 2, ("STDOUT", "begun 2"), ("STDERR", "ended 2"))
        has_written(each, 3, ("STDOUT", "third"))
        expect(state(each, 3)).to_have_text(re.compile("^passed: "))
        expect(state(each, 1)).to_have_text("running")
    gates[0].write_text("go\n")
    expect(state(page, 1)).to_have_text(re.compile("^passed: "))
    has_written(opened(browser, served), 1, ("STDOUT", "begun 1"), ("STDERR", "ended 1"))


@needs_chromium
def test_a_build_is_cancelled_from_the_page_with_what_it_still_says_and_one_that_is_queued_never_starts(served, page):
    command = "trap 'echo cleaning up >&2; exit 7' TERM; echo begun; sleep 1000 & wait"
    for _ in range(3):
        submit(page, command)
    for number in (1, 2):
        has_written(page, number, ("STDOUT", "begun"))
    for number in (3, 1):
        page.locator(f"#build-{number}").get_by_role("button", name="Cancel").click()
    expect(state(page, 3)).to_have_text("cancelled: not started")
    expect(state(page, 1)).to_have_text(re.compile(r"^cancelled: status 7, \d+\.\d\d s$"))
    has_written(page, 1, ("STDOUT", "begun"), ("STDERR", "cleaning up"))
    submit(page, "echo the place is free")
    has_written(page, 4, ("STDOUT", "the place is free"))
    has_written(page, 3)
    expect(state(page, 2)).to_have_text("running")
    expect(page.locator("#build-1").get_by_role("button")).to_be_hidden()


@needs_chromium
def test_what_is_typed_while_a_build_is_being_submitted_stays(served, page):
    def type_on(route):
        page.get_by_label("Command").fill("echo second")
        route.continue_()

    page.route("**/builds", type_on)
    with page.expect_response("**/builds"):
        submit(page, "echo first")
    has_written(page, 1, ("STDOUT", "first"))
    expect(page.get_by_label("Command")).to_have_value("echo second")


@needs_chromium
def test_what_a_build_says_is_text_whatever_it_is(served, page):
    markup = '<img src=x onerror="document.title=1"><script>document.title=2</script>'
    submit(page, f"echo '{markup}'; echo '<b>bold</b>' >&2")
    has_written(page, 1, ("STDOUT", markup), ("STDERR", "<b>bold</b>"))
    expect(page.locator("#build-1 code")).to_contain_text(markup)
    assert page.locator("main img, main script, pre b").count() == 0
    assert page.title() == "Builds"
    submit(
        page,
        r"printf 'a\377\n'; printf 'caf\303'; printf '\251\n' >&2; printf '\251\n'; printf '\033[1;31mred\033['; printf '0m, \033]0;x\007plain\n'",
    )
    has_written(
        page,
        2,
        *(("STDOUT", "a\ufffd"), ("STDOUT", "caf"), ("STDERR", "\ufffd"), ("STDOUT", "é"), ("STDOUT", "red"), ("STDOUT", ", plain")),
    )
    submit(page, "echo " + "x" * 200_000)
    expect(state(page, 3)).to_have_text(re.compile("^failed: .*Argument list too long"))
    assert served.ask("builds", b"echo a\0b") == 201
    expect(state(page, 4)).to_have_text(re.compile("^failed: "))
    submit(page, "echo still here")
    has_written(page, 5, ("STDOUT", "still here"))


@needs_chromium
def test_a_page_that_does_not_read_holds_nothing_back_and_of_a_flood_the_end_is_kept(served, page):
    with socket.socket() as stuck:
        stuck.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)  # the kernel shall not take it all
        stuck.connect(("127.0.0.1", served.port))
        stuck.sendall(f"GET /events HTTP/1.1\r\nHost: 127.0.0.1:{served.port}\r\n\r\n".encode())
        assert stuck.recv(1) == b"H"
        submit(page, f"left={FLOOD_LINES}; while [ $left -gt 0 ]; do echo {LINE}; left=$((left - 1)); done; echo the end >&2")
        expect(state(page, 1)).to_have_text(re.compile("^passed: "), timeout=2 * EXPECT_MS)
        expect(page.locator("#build-1 pre span").last).to_have_text("the end")
    expect(page.locator("#build-1 .left-out")).to_have_text(re.compile(r"^\d+ earlier writes are not kept$"))
    shown = page.locator("#build-1 pre").evaluate("element => element.textContent")
    assert KEPT_CHARACTERS / 2 < len(shown) <= KEPT_CHARACTERS + len("the end\n")
    assert re.fullmatch(rf"({LINE}\n)+the end\n", shown)


@needs_chromium
def test_of_the_builds_that_have_ended_the_last_are_kept(served, page):
    submit(page, "echo 1; sleep 1000")
    has_written(page, 1, ("STDOUT", "1"))
    for number in range(2, 27):
        assert served.ask("builds", f"echo {number}".encode()) == 201
    has_written(page, 26, ("STDOUT", "26"))
    expect(page.locator("article")).to_have_count(21)
    assert page.locator("article b").all_text_contents() == [f"#{number}" for number in [*range(26, 6, -1), 1]]


@pytest.mark.parametrize("headers", [{"Origin": "http://example.org"}, {"Origin": "null"}, {"Host": "example.org"}], ids=str)
def test_another_site_cannot_submit_a_build(served, headers):
    with pytest.raises(urllib.error.HTTPError, match="403") as refused:
        served.ask("builds", b"touch submitted", **headers)
    refused.value.close()
    assert not (served.folder / "submitted").exists()


@needs_chromium
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=lambda number: number.name)
def test_the_runner_ends_its_builds_when_it_is_stopped(served, page, number):
    for _ in range(3):
        submit(page, "echo begun; sleep 1000 & sleep 1000 | cat & wait")
    for build in (1, 2):
        has_written(page, build, ("STDOUT", "begun"))
    expect(state(page, 3)).to_have_text("queued")
    assert len(served.processes()) > 8
    assert served.stop(number) == (0, "")
    assert served.left() == []


def test_the_readme_shows_it_as_it_is():
    program = PROGRAM.read_text()
    title, section = re.search(
        r"^### A CI runner in (\d+) lines\n(.*?)^#", (ROOT / "README.md").read_text(), re.MULTILINE | re.DOTALL
    ).groups()
    shown = re.search(r"^async def .*?(?=^```)", section, re.MULTILINE | re.DOTALL)[0]
    assert textwrap.indent(shown, "    ") in program
    assert int(title) == len(program.splitlines()) < 150
