"""What ``dtee-async`` gives for real programs is byte for byte what the shell's redirections give.

Each program runs once under the shell with ``>FILE 2>&1`` and once with ``>out 2>err``, in a folder of its own, and then under us in the
same folder. All are deterministic: LC_ALL=C, fixed dates, relative paths.
"""

import json
import os
import re
import shutil
import socket
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import pytest

BIN = Path(sys.executable).parent

FILES = {
    "warn.c": '#include <stdio.h>\nint f(int a) { int unused; char *p = 3; printf("%s\\n", a); }\nint main(void) { return f(1); }\n',
    "error.c": "#include <no-such-header.h>\nint main(void) { return nothing; }\n",
    "Makefile": (
        "all: one two three\n"
        "one:\n\t@echo made one; echo loud >&2\n\t-false\n"
        "two: one\n\tcc -Wall -c warn.c -o warn.o 2>&1 | wc -l\n\t$(warning a warning)\n"
        "three: two\n\techo before; echo err >&2; exit 3\n"
    ),
    "warn.py": (
        "import sys, warnings\n"
        "print('first')\n"
        "warnings.warn('old', DeprecationWarning)\n"
        "open('warn.py')\n"
        "sys.stdout.flush()\n"
        "print('between', file=sys.stderr)\n"
        "for i in range(3000):\n    print(i, 'x' * 50)\n"
        "sys.stdout.flush()\n"
        "1 / 0\n"
    ),
    "traced.sh": (
        'f() { echo in f "$1"; echo to stderr >&2; return 2; }\n'
        "for i in 1 2 3; do f $i || echo $?; done\n"
        'x=$(seq 3 -1 1)\nwhile read -r n; do echo n=$n; done <<<"$x"\n'
        "case $x in 3*) no-such-command;; esac\n"
        "[[ $x == *1 ]] && cat no-such-file\nexit 9\n"
    ),
    "jobs.sh": (
        "(echo a; echo b >&2; exit 3) & wait $!; echo status $?\n"
        "seq 2000 | awk '{ print $1 * 2 }' | sort -rn | sed -n 1,500p & wait\n"
        "(kill -TERM $BASHPID) & wait $!; echo status $? >&2\n"
        "mkfifo f.$$; (echo through >f.$$) & cat f.$$ >&2; wait; rm f.$$\n"
        "echo end; exit 4\n"
    ),
    "both.pl": (
        "$| = 1; my $s = 7;\n"
        "for (1 .. 3000) { $s = ($s * 1103515245 + 12345) % 2147483648; my $l = 'p' x ($s % 300);\n"
        '  if ($s & 4096) { print STDOUT "o$_ $l\\n" } else { print STDERR "e$_ $l\\n" } }\n'
        "warn 'a warning'; system('echo from a child; echo and its stderr >&2'); print 'unfinished'; die 'the end'\n"
    ),
    "both.awk": (
        'BEGIN { for (i = 0; i < 50; i++) { print "o" i; fflush(); print "e" i | "cat >&2"; close("cat >&2") }\n'
        '  printf "%s", "no newline"; exit 5 }\n'
    ),
    "dash.sh": "set -x\necho one\necho two >&2\nno-such-command\n. ./no-such-file\necho never\n",
    "tree/a": "a\n",
    "tree/b/c": "c\n" * 5000,
    "tree/b/empty": "",
}  # fmt: skip


class Program(NamedTuple):
    """One run. ``streams``: what it must write to, lest a program that did nothing be equal to itself. ``times``: bytes that
    tell the time, and vary."""

    words: list[str]
    status: int
    streams: str
    times: bytes = b""


def sh(script, status, streams):
    return Program(["sh", "-c", script], status, streams)


PROGRAMS = {
    "cc-warnings": Program(["cc", "-Wall", "-Wextra", "-c", "warn.c", "-o", "warn.o"], 0, "e"),
    "cc-error": Program(["cc", "-c", "error.c", "-o", "error.o"], 1, "e"),
    "cc-preprocessed": Program(["cc", "-E", "-v", "warn.c"], 0, "oe"),
    "make": Program(["make"], 2, "oe"),
    "make-keep-going": Program(["make", "-k", "--trace"], 2, "oe"),
    "make-output-sync": Program(["make", "-O"], 2, "oe"),
    "make-no-rule": Program(["make", "nothing"], 2, "e"),
    "git-log": Program(["git", "-C", "repository", "log", "--stat", "-p"], 0, "o"),
    "git-status": Program(["git", "-C", "repository", "status"], 0, "o"),
    "git-diff": Program(["git", "-C", "repository", "diff", "--exit-code"], 1, "o"),
    "git-error": Program(["git", "-C", "repository", "show", "no-such-commit"], 128, "e"),
    "git-clone": sh("rm -rf clone; git clone repository clone; cd clone; git checkout -b other; git log --oneline", 0, "oe"),
    "git-unknown-command": Program(["git", "stattus"], 1, "e"),
    "tar-names-on-stdout": Program(["tar", "cvf", "archive.tar", "--sort=name", "tree"], 0, "o"),
    "tar-to-null": Program(["tar", "cvf", "/dev/null", "--sort=name", "tree", "no-such-file"], 2, "oe"),
    "tar-names-on-stderr": Program(["tar", "cvf", "-", "--sort=name", "tree", "no-such-file"], 2, "oe"),
    "tar-pipeline": sh("tar cf - --sort=name tree | tar tvf - --utc", 0, "o"),
    "python-dev": Program([sys.executable, "-X", "dev", "warn.py"], 1, "oe"),
    "python-unbuffered": Program([sys.executable, "-u", "-W", "always", "warn.py"], 1, "oe"),
    "python-syntax-error": Program([sys.executable, "-c", "print('a'"], 1, "e"),
    "bash-x": Program(["bash", "-x", "traced.sh"], 9, "oe"),
    "bash-v": Program(["bash", "-v", "traced.sh"], 9, "oe"),
    "bash-background": Program(["bash", "jobs.sh"], 4, "oe"),
    "dash": Program(["dash", "dash.sh"], 2, "oe"),
    "find": Program(["find", "tree/a", "no-such-folder", "tree/b/c", "neither"], 1, "oe"),
    "find-exec": sh("find tree/a no-such-folder -exec ls {} nope ';' -print", 1, "oe"),
    "perl": Program(["perl", "both.pl"], 255, "oe"),
    "awk": Program(["awk", "-f", "both.awk"], 5, "oe"),
    "seq": Program(["seq", "200000"], 0, "o"),
    "ls": Program(["ls", "tree", "no-such-file", "tree/b"], 2, "oe"),
    "grep": Program(["grep", "-c", "c", "tree/b/c", "no-such-file", "tree/b"], 2, "oe"),
    "diff": Program(["diff", "-r", "tree", "repository"], 1, "o"),
    "gzip": sh("gzip -nvc tree/b/c; gzip -tv warn.py; gzip -nc tree/b/c | gzip -dc", 0, "oe"),
    "sed-sort-xargs": sh("seq 300 | sed 's/^/x/' | sort | xargs -t -n 100 echo; sed -n Q3 tree/b/c; sort no-such-file", 2, "oe"),
    "binary": Program(["head", "-c", "100000", "/proc/self/exe", "no-such-file"], 1, "oe"),
    "killed": Program(["bash", "-c", "echo a; echo b >&2; printf c; kill -KILL $$"], -9, "oe"),
    "curl-refused": Program(["curl", "-sS", "-w", "%{http_code}\n", "http://127.0.0.1:PORT/"], 7, "oe", rb"after \d+ ms"),
    "curl-verbose": Program(["curl", "-sSv", "-w", "%{http_code}\n", "http://127.0.0.1:PORT/"], 7, "oe", rb"after \d+ ms"),
    "wget-refused": Program(["wget", "-nv", "-t1", "-O-", "http://127.0.0.1:PORT/"], 4, "e"),
    "wget-refused-verbose": Program(["wget", "-t1", "-O-", "http://127.0.0.1:PORT/"], 4, "e", rb"--20\d\d-\d\d-\d\d \d\d:\d\d:\d\d--"),
}  # fmt: skip
NAMES = [
    pytest.param(name, marks=pytest.mark.skipif(not shutil.which(program.words[0]), reason=f"{program.words[0]} is not installed"))
    for name, program in PROGRAMS.items()
]


class Reference(NamedTuple):
    """What the shell gave."""

    words: list[str]
    status: int
    """As the shell sees it: 128 + N for a death by signal N."""
    folder: Path
    times: bytes
    combined: bytes
    out: bytes
    err: bytes

    def still(self, data):
        """Without what tells the time."""
        return re.sub(self.times, b"", data) if self.times else data


@pytest.fixture(scope="module")
def steady():
    """An environment in which the programs say the same every time."""
    with pytest.MonkeyPatch.context() as patch:
        for name in [
            name for name in os.environ if name.startswith(("GIT_", "PYTHON", "MAKE", "MFLAGS")) or name.lower().endswith("_proxy")
        ]:
            patch.delenv(name)
        for who in ("AUTHOR", "COMMITTER"):
            patch.setenv(f"GIT_{who}_NAME", "A U Thor")
            patch.setenv(f"GIT_{who}_EMAIL", "author@example.com")
            patch.setenv(f"GIT_{who}_DATE", "2001-02-03T04:05:06Z")
        settings = {"LC_ALL": "C", "TZ": "UTC", "TERM": "dumb", "PYTHONDONTWRITEBYTECODE": "1"}
        settings |= {"GIT_CONFIG_GLOBAL": "/dev/null", "GIT_CONFIG_SYSTEM": "/dev/null", "GIT_PAGER": "cat"}
        for name, value in settings.items():
            patch.setenv(name, value)
        yield


@pytest.fixture(scope="module")
def closed_port():
    """A port of the loopback interface that is ours and that nobody listens on."""
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        yield bound.getsockname()[1]


def make_folder(folder):
    for name, text in FILES.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        os.utime(path, (1_000_000_000, 1_000_000_000))
    repository = folder / "repository"
    git = ["git", "-C", repository]
    subprocess.run(["git", "init", "-q", "-b", "main", repository], check=True)
    for number in range(3):
        (repository / "file").write_text("".join(f"{i} {i % (number + 2)}\n" for i in range(200)))
        subprocess.run([*git, "add", "file"], check=True)
        subprocess.run([*git, "commit", "-q", "-m", f"Commit {number}"], check=True)
    (repository / "file").write_text("changed\n")
    (repository / "untracked").write_text("new\n")


@pytest.fixture(scope="module")
def reference(steady, closed_port, tmp_path_factory):
    """What the shell gives for a program of this name, made once."""
    made = {}

    def plain(words, redirection, folder):
        return subprocess.run(["sh", "-c", f'exec "$@" {redirection}', "sh", *words], cwd=folder, stdin=subprocess.DEVNULL).returncode

    def make(name):
        program = PROGRAMS[name]
        words = [word.replace("PORT", str(closed_port)) for word in program.words]
        folder = tmp_path_factory.mktemp(name)
        make_folder(folder)
        to = tmp_path_factory.mktemp("shell")
        statuses = {plain(words, f">{to}/all 2>&1", folder), plain(words, f">{to}/out 2>{to}/err", folder)}
        assert statuses == {program.status}
        status = program.status if program.status >= 0 else 128 - program.status
        found = Reference(words, status, folder, program.times, *((to / kind).read_bytes() for kind in ("all", "out", "err")))
        assert "o" * bool(found.out) + "e" * bool(found.err) == program.streams
        return found

    def get(name):
        if name not in made:
            made[name] = make(name)
        return made[name]

    return get


@pytest.mark.parametrize("name", NAMES)
def test_a_combined_file_and_the_two_own_streams_are_what_the_shell_gives(cli, reference, name, tmp_path):
    plain = reference(name)
    with open(tmp_path / "out", "wb") as out, open(tmp_path / "err", "wb") as err:
        copies = ["-C", tmp_path / "all", "-O", tmp_path / "O", "-E", tmp_path / "E"]
        done = cli(*copies, *plain.words, cwd=plain.folder, stdout=out, stderr=err)
    assert done.returncode == plain.status
    files = {path.name: plain.still(path.read_bytes()) for path in tmp_path.iterdir()}
    combined, out, err = plain.still(plain.combined), plain.still(plain.out), plain.still(plain.err)
    assert files == {"all": combined, "out": out, "O": out, "err": err, "E": err}


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("target", ["file", "pipe"])
def test_our_own_two_streams_in_one_place_are_what_the_shell_gives(cli, reference, name, target, tmp_path):
    plain = reference(name)
    with open(tmp_path / "all", "w+b") as file:
        to = file if target == "file" else subprocess.PIPE
        done = cli(*plain.words, cwd=plain.folder, stdout=to, stderr=subprocess.STDOUT)
        file.seek(0)
        shown = file.read() if target == "file" else done.stdout
    assert (done.returncode, plain.still(shown)) == (plain.status, plain.still(plain.combined))


@pytest.mark.parametrize("name", NAMES)
def test_cron_mode_gives_the_same_and_its_status_line_or_nothing(cli, reference, name, tmp_path):
    plain = reference(name)
    copies = ["-C", tmp_path / "all", "-O", tmp_path / "out", "-E", tmp_path / "err"]
    done = cli("cronty-async", *copies, *plain.words, cwd=plain.folder, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    how = "process terminated by signal 9: Killed" if name == "killed" else f"exited with status {plain.status}"
    told = plain.err or plain.status
    expected = plain.combined + f"cronty-async: {plain.words[0]}: {how}\n".encode() if told else b""
    assert (done.returncode, plain.still(done.stdout)) == (plain.status, plain.still(expected))
    files = [plain.still((tmp_path / kind).read_bytes()) for kind in ("all", "out", "err")]
    assert files == [plain.still(data) for data in (plain.combined, plain.out, plain.err)]


@pytest.mark.parametrize("name", [param for param in NAMES if PROGRAMS[param.values[0]].status])
def test_cron_mode_of_a_failure_gives_each_stream_its_own(cli, reference, name):
    plain = reference(name)
    done = cli("cronty-async", *plain.words, cwd=plain.folder)
    assert plain.still(done.stdout) == plain.still(plain.out)
    how = "process terminated by signal 9: Killed" if name == "killed" else f"exited with status {plain.status}"
    assert plain.still(done.stderr) == plain.still(plain.err) + f"cronty-async: {plain.words[0]}: {how}\n".encode()


JOB = """
[jobs.{name}]
command = {words}
working_dir = {folder}
combined_overwrite = {all}
out_overwrite = {out}
err_overwrite = {err}
"""


def test_all_programs_at_once_as_jobs_give_the_same_files(cli, reference, loop_name, tmp_path):
    names = [name for name in PROGRAMS if shutil.which(PROGRAMS[name].words[0])]
    plains = {name: reference(name) for name in names}
    text = ""
    for name, plain in plains.items():
        paths = {"folder": plain.folder, **{kind: tmp_path / f"{name}.{kind}" for kind in ("all", "out", "err")}}
        quoted = {key: json.dumps(str(path)) for key, path in paths.items()}
        text += JOB.format(name=name, words=json.dumps(plain.words), **quoted)
    (tmp_path / "jobs.toml").write_text(text)
    done = cli("--jobs", "jobs.toml", "--loop", loop_name, "--log-format", "json")
    events = [json.loads(line) for line in done.stderr.splitlines() if line.startswith(b"{")]
    statuses = {event["job"]: event.get("status", event.get("signal")) for event in events if event["event"] == "job exited"}
    assert statuses == {name: plain.status for name, plain in plains.items()} | {"killed": "SIGKILL"}
    for name, plain in plains.items():
        files = [plain.still((tmp_path / f"{name}.{kind}").read_bytes()) for kind in ("all", "out", "err")]
        assert files == [plain.still(data) for data in (plain.combined, plain.out, plain.err)], name
