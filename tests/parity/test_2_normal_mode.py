"""The contract, "Normal mode": a test for each of its lines, in its order."""

from __future__ import annotations

import errno
import os
import resource
import signal
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.usefixtures("plain")

BIN = Path(sys.executable).parent
SIGNALS = [signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT, signal.SIGPIPE]


def limited(what: int, value: int):
    return lambda: resource.setrlimit(what, (value, value))


def test_stdouts_writes_go_to_our_stdout_and_stderrs_to_ours_and_the_files_get_theirs(cli, tmp_path):
    done = cli("-o", "o", "-e", "e", "-c", "c", "sh", "-c", "printf a; printf b >&2; printf c")
    assert (done.stdout, done.stderr) == (b"ac", b"b")
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == {"o": "ac", "e": "b", "c": "abc"}


def test_nothing_is_line_buffered(waiting):
    child = waiting("dtee-async", before="printf half; printf two >&2")
    assert child.process.stdout.read(4) == b"half"
    assert child.process.stderr.read(3) == b"two"
    child.kill_command()
    assert child.end() == (137, b"", b"")


def test_zero_length_writes_are_harmless(cli, tmp_path):
    script = "import os; [os.write(fd, data) for data in (b'', b'a', b'', b'b') for fd in (1, 2)]"
    done = cli("-C", "c", sys.executable, "-c", script)
    assert (done.returncode, done.stdout, done.stderr, (tmp_path / "c").read_bytes()) == (0, b"ab", b"ab", b"aabb")


def test_the_command_keeps_group_stdin_environment_and_umask(cli, tmp_path):
    script = "cat; umask; echo $OF_OURS; ps -o pgid= -p $$"
    with open(tmp_path / "in", "w+b") as file:
        file.write(b"in\n")
        file.seek(0)
        done = cli("sh", "-c", script, stdin=file, umask=0o057, env=os.environ | {"OF_OURS": "kept"})
    assert done.stdout.split() == [b"in", b"0057", b"kept", b"%d" % os.getpgid(0)]


@pytest.mark.parametrize("name", ["dtee-async", "cronty-async"])
@pytest.mark.parametrize("ignored", [(), (signal.SIGINT, signal.SIGHUP, signal.SIGQUIT, signal.SIGTERM, signal.SIGUSR1)])
def test_the_command_keeps_the_signal_dispositions_and_the_mask(cli, name, ignored):
    def prepare():
        for number in ignored:
            signal.signal(number, signal.SIG_IGN)
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGUSR2})

    words = ["grep", "-E", "^Sig(Ign|Blk|Cgt)", "/proc/self/status"]
    plain = subprocess.run(
        ["sh", "-c", f"exec {' '.join(words[:1])} -E '^Sig(Ign|Blk|Cgt)' {words[-1]} >&2"], stderr=-1, preexec_fn=prepare
    )
    done = cli(name, "sh", "-c", f"exec {words[0]} -E '^Sig(Ign|Blk|Cgt)' {words[-1]} >&2", preexec_fn=prepare)
    assert done.stderr.splitlines()[:3] == plain.stderr.splitlines()


def test_the_command_gets_the_extra_fds_we_were_given_and_no_fd_of_ours(cli):
    reader, writer = os.pipe()
    script = "import os; print(sorted(int(fd) for fd in os.listdir('/proc/self/fd')))"
    done = cli("-o", "f", sys.executable, "-c", script, pass_fds=[reader])
    plain = subprocess.run([sys.executable, "-c", script], stdin=subprocess.DEVNULL, capture_output=True, pass_fds=[reader])
    os.close(reader)
    os.close(writer)
    assert done.stdout == plain.stdout


@pytest.mark.parametrize("status", [0, 1, 63, 64, 127, 128, 255])
def test_its_status_is_ours_after_what_is_queued_was_drained(cli, programs, random_writes, status):
    done = cli("sh", "-c", f"{programs}/random_writer 1 300 3000; exit {status}", stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    assert (done.returncode, done.stdout) == (status, random_writes(1, 300, 3000)[0])


@pytest.mark.parametrize("number", [*range(1, 16), 24, 25, 30, 31, 34, 64])
def test_a_death_by_signal_n_is_128_plus_n_and_by_int_our_own(cli, number):
    done = cli("python3", "-c", f"import os, signal as s; s.signal({number}, 0) if {number} != 9 else 0; os.kill(os.getpid(), {number})")
    assert done.returncode == (-number if number == signal.SIGINT else 128 + number)


def test_it_is_not_waited_for_beyond_its_exit_and_who_is_left_gets_econnrefused(cli, tmp_path):
    os.mkfifo(tmp_path / "go")
    os.mkfifo(tmp_path / "said")
    script = "import os; open('go').read(); e = 0\ntry: os.write(1, b'x')\nexcept OSError as error: e = error.errno\nopen('said', 'w').write(str(e))"
    done = cli("sh", "-c", 'echo a; "$0" -c "$1" & exit 3', sys.executable, script)
    assert (done.returncode, done.stdout) == (3, b"a\n")
    (tmp_path / "go").write_text("")
    assert int((tmp_path / "said").read_text()) == errno.ECONNREFUSED


@pytest.mark.parametrize("number", SIGNALS)
def test_a_signal_to_us_kills_us_and_not_the_command(waiting, number):
    child = waiting("dtee-async", before="echo a; echo b >&2")
    assert (child.process.stdout.readline(), child.process.stderr.readline()) == (b"a\n", b"b\n")
    child.process.send_signal(number)
    assert child.end() == (-number, b"", b"")
    child.kill_command()


@pytest.mark.parametrize("number", SIGNALS[:-1])
@pytest.mark.parametrize("name", ["dtee-async", "cronty-async"])
def test_a_signal_while_the_directory_of_the_sockets_exists_leaves_nothing_behind(cli, tmp_path, failing, name, number):
    done = cli(name, "touch", "ran", env=failing(SIGNAL_AT_BIND=int(number)))
    assert (done.returncode, list(tmp_path.iterdir())) == (-number, [])
    told = name == "cronty-async" and number != signal.SIGQUIT
    assert done.stderr.decode() == (f"{name}: received signal {int(number)}: {signal.strsignal(number)}\n" if told else "")


def test_i_ignores_an_interrupt_and_the_command_gets_its_own(waiting):
    child = waiting("dtee-async", "-i", before="echo a")
    child.process.send_signal(signal.SIGINT)
    os.kill(child.command, signal.SIGTERM)
    assert child.end() == (143, b"a\n", b"")
    assert subprocess.run([BIN / "dtee-async", "-i", "sh", "-c", "kill -INT $$"]).returncode == -signal.SIGINT


@pytest.mark.parametrize(
    ("command", "reason"),
    [
        ("nonexistent", "No such file or directory"),
        ("/nonexistent", "No such file or directory"),
        ("/dev/null", "Permission denied"),
        ("/", "Permission denied"),
        ("/dev/null/x", "Not a directory"),
        ("./loop", "Too many levels of symbolic links"),
        ("./interpreter", "No such file or directory"),
    ],
)
def test_a_command_that_cannot_be_executed_is_said_through_its_own_stderr_with_66(cli, tmp_path, command, reason):
    (tmp_path / "loop").symlink_to("loop")
    (tmp_path / "interpreter").write_text("#!/nonexistent\n")
    (tmp_path / "interpreter").chmod(0o755)
    done = cli("-E", "e", "-C", "c", "-O", "o", command)
    assert (done.returncode, done.stdout, done.stderr.decode()) == (66, b"", f"dtee-async: {command}: {reason}\n")
    assert [(tmp_path / name).read_bytes() for name in "eco"] == [done.stderr, done.stderr, b""]


@pytest.mark.parametrize("command", ["./bare-script", "bare-script"])
def test_a_script_without_an_interpreter_is_a_shell_script_here_and_in_path(cli, tmp_path, command):
    (tmp_path / "bare-script").write_text('echo "$0" "$@"\n')
    (tmp_path / "bare-script").chmod(0o755)
    path = command if command.startswith("./") else str(tmp_path / "bare-script")
    done = cli(command, "a", "b c", env=os.environ | {"PATH": f"{tmp_path}:{os.environ['PATH']}"}, cwd=tmp_path if "/" in command else "/")
    assert (done.returncode, done.stdout.decode()) == (0, f"{path} a b c\n")


def test_all_files_are_tried_and_every_failure_reported_and_nothing_runs(cli, tmp_path):
    (tmp_path / "folder").mkdir()
    done = cli("-O", "good", "-o", "no/a", "-e", "folder", "-C", "/dev/null/x", "touch", "ran")
    assert (done.returncode, done.stderr.decode().splitlines()) == (
        73,
        ["dtee-async: no/a: No such file or directory", "dtee-async: folder: Is a directory", "dtee-async: /dev/null/x: Not a directory"],
    )
    assert not (tmp_path / "ran").exists()


def test_a_folder_that_may_not_be_written_is_said(cli, tmp_path):
    folder = "/proc/self" if os.geteuid() == 0 else str(tmp_path / "locked")
    if os.geteuid():
        (tmp_path / "locked").mkdir(mode=0o555)
    reason = "No such file or directory" if os.geteuid() == 0 else "Permission denied"
    done = cli("-o", f"{folder}/new", "true")
    assert (done.returncode, done.stderr.decode()) == (73, f"dtee-async: {folder}/new: {reason}\n")


@pytest.mark.root
def test_a_full_disk_is_said_once_the_others_go_on_and_later_data_is_tried_again(cli, tmp_path, full_disk):
    gos = [tmp_path / f"go{step}" for step in range(4)]  # one a step: a reader that comes back to the same one could meet its last writer
    for go in gos:
        os.mkfifo(go)
    script = "read x <go0; echo 1; read x <go1; echo 2; read x <go2; echo 3 >&2; read x <go3; echo 4"
    words = [BIN / "dtee-async", "-o", full_disk / "log", "-C", "good", "sh", "-c", script]
    child = subprocess.Popen(words, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    said = f"dtee-async: {full_disk}/log: No space left on device\n".encode()
    expected = (child.stderr, said), (child.stdout, b"1\n2\n"), (child.stderr, b"3\n")
    for go, (stream, line) in zip(gos, expected, strict=False):
        go.write_text("\n")
        assert stream.read(len(line)) == line
    # The 3 came in a later batch than the 2, so the 2 was tried before.
    (full_disk / "filler").unlink()
    gos[3].write_text("\n")
    assert (*child.communicate(), child.returncode) == (b"4\n", b"", 74)
    assert ((full_disk / "log").read_bytes(), (tmp_path / "good").read_bytes()) == (b"4\n", b"1\n2\n3\n4\n")


def test_a_failure_is_said_again_after_the_file_had_recovered(cli, tmp_path):
    script = "import os\nfor data in (b'a' * 99, b'bb', b'c', b'dd'): open('go').read(); os.write(1, data)"
    os.mkfifo(tmp_path / "go")
    words = [BIN / "dtee-async", "-o", "log", sys.executable, "-c", script]
    child = subprocess.Popen(
        words, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, preexec_fn=limited(resource.RLIMIT_FSIZE, 100)
    )
    said = b"dtee-async: log: File too large\n"
    for size, message in ((99, b""), (2, said), (1, b""), (2, said)):
        if size == 1:
            os.truncate(tmp_path / "log", 99)  # there is room again, for one byte
        (tmp_path / "go").write_text("")
        assert len(child.stdout.read(size)) == size
        assert child.stderr.read(len(message)) == message
    assert (*child.communicate(), child.returncode) == (b"", b"", 74)
    assert (tmp_path / "log").read_bytes() == b"a" * 99 + b"c"


@pytest.mark.parametrize("call", ["write", "close"])
def test_an_error_of_the_disk_is_said_too(cli, tmp_path, failing, call):
    done = cli("-o", "log", "echo", "x", env=failing(call, errno.EIO, FAIL_PATH=tmp_path / "log"))
    assert (done.returncode, done.stdout, done.stderr) == (74, b"x\n", b"dtee-async: log: Input/output error\n")


def test_our_own_stdout_fails_and_it_is_said(cli, tmp_path, failing):
    with open(tmp_path / "out", "wb") as file:
        done = cli("echo", "x", stdout=file, stderr=subprocess.PIPE, env=failing("write", errno.EIO, FAIL_PATH=tmp_path / "out"))
    assert (done.returncode, done.stderr) == (74, b"dtee-async: stdout: write: Input/output error\n")


@pytest.mark.parametrize("stream", ["stdout", "stderr"])
def test_a_closed_pipe_kills_us_by_sigpipe(cli, stream):
    reader, writer = os.pipe()
    os.close(reader)
    done = cli("sh", "-c", "echo x; echo y >&2", **{"stdout": subprocess.PIPE, "stderr": subprocess.PIPE} | {stream: writer})
    os.close(writer)
    assert done.returncode == -signal.SIGPIPE


@pytest.mark.parametrize("limit", range(5, 11))
def test_too_few_fds_are_a_message_and_69_or_71_and_never_an_internal_error(cli, limit):
    done = cli("echo", "x", preexec_fn=limited(resource.RLIMIT_NOFILE, limit))
    if done.returncode:
        assert done.returncode in (69, 71)
        assert done.stderr.endswith(b": Too many open files\n")
        assert done.stderr.count(b"\n") == 1
    else:
        assert done.stdout == b"x\n"


@pytest.mark.parametrize("call", ["socket", "bind"])
def test_sockets_that_cannot_be_made_are_said_with_69(cli, failing, call):
    done = cli("echo", "x", env=failing(call, errno.ENOBUFS))
    assert (done.returncode, done.stdout) == (69, b"")
    assert done.stderr.endswith(b"socket: No buffer space available\n")


def test_a_fork_that_fails_is_said_with_71(cli, failing):
    done = cli("echo", "x", env=failing("fork", errno.EAGAIN))
    assert (done.returncode, done.stdout, done.stderr) == (71, b"", b"dtee-async: fork: Resource temporarily unavailable\n")


@pytest.mark.skipif(os.geteuid() == 0, reason="RLIMIT_NPROC does not bind root")
def test_a_limit_of_processes_is_said_with_71(cli):
    done = cli("echo", "x", preexec_fn=limited(resource.RLIMIT_NPROC, 0))
    assert (done.returncode, done.stdout, done.stderr) == (71, b"", b"dtee-async: fork: Resource temporarily unavailable\n")


@pytest.mark.parametrize("status", [0, 3])
def test_receiving_that_fails_is_said_with_74(cli, failing, status):
    done = cli("sh", "-c", f"exit {status}", env=failing("recvmmsg", errno.EIO, FAIL_AFTER=1))
    assert (done.returncode, done.stderr) == (74, b"dtee-async: input socket: Input/output error\n")


def test_an_internal_error_is_70(cli, tmp_path):
    (tmp_path / "sitecustomize.py").write_text("import dtee_async.cli.single as single\nsingle._Single.run = lambda self: 1 / 0\n")
    done = cli("echo", "x", env=os.environ | {"PYTHONPATH": str(tmp_path)})
    assert done.returncode == 70
    assert b"ZeroDivisionError" in done.stderr
    assert b"Traceback" not in done.stderr


@pytest.mark.parametrize("name", ["dtee-async", "cronty-async"])
@pytest.mark.parametrize("closed", range(8))
def test_all_eight_combinations_of_closed_standard_streams(tmp_path, closed, name):
    inner = "echo a; echo b >&2; test -e /proc/self/fd/0 && echo has stdin >seen; exit 3"
    redirections = "".join(f" {fd}{'<' if fd == 0 else '>'}&-" for fd in range(3) if closed >> fd & 1)
    script = f'exec "{BIN / name}" -o o -e e -c c sh -c "$0"{redirections}'
    done = subprocess.run(["sh", "-c", script, inner], cwd=tmp_path, stdin=subprocess.DEVNULL, capture_output=True)
    assert done.returncode == 3
    assert done.stdout == (b"" if closed & 2 else b"a\n")
    assert done.stderr.startswith(b"" if closed & 4 else b"b\n")
    assert closed & 4 == 0 or done.stderr == b""
    files = {path.name: path.read_text() for path in tmp_path.iterdir()}
    assert files == {"o": "a\n", "e": "b\n", "c": "a\nb\n"} | ({} if closed & 1 else {"seen": "has stdin\n"})


@pytest.mark.parametrize(
    ("options", "left"),
    [
        (["-O", "f", "-E", "f"], "123\n4\n"),
        (["-O", "f", "-o", "f"], "123\n123\n"),
        (["-O", "f", "-O", "f"], "123\n"),
        (["-O", "f", "-C", "./f"], ""),
    ],
)
def test_outputs_that_are_the_same_file_do_not_overwrite_each_other(cli, tmp_path, options, left):
    (tmp_path / "f").write_text("old")
    assert cli(*options, "sh", "-c", "echo 123; echo 4 >&2").returncode == 0
    text = (tmp_path / "f").read_text()
    assert text == left or sorted(text.split()) == ["123", "123", "4"]


def test_a_non_blocking_stdout_is_made_blocking(cli):
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    child = subprocess.Popen([BIN / "dtee-async", "head", "-c", "1000000", "/dev/zero"], stdout=writer)
    os.close(writer)
    with open(reader, "rb") as file:
        assert len(file.read()) == 1_000_000
    assert child.wait() == 0


def test_tmpdir_is_respected(cli, tmp_path):
    done = cli("true", env=os.environ | {"TMPDIR": "/nonexistent"})
    assert (done.returncode, done.stderr) == (69, b"dtee-async: /nonexistent: temporary directory: No such file or directory\n")


def test_a_path_too_long_for_a_socket_address_is_a_clear_message_with_69(cli, tmp_path):
    folder = tmp_path / ("x" * 120)
    folder.mkdir()
    done = cli("true", env=os.environ | {"TMPDIR": str(folder)})
    assert done.returncode == 69
    assert b"too long" in done.stderr
    assert b"TMPDIR" in done.stderr
    assert list(folder.iterdir()) == []


def test_a_datagram_from_another_socket_is_ignored_among_others(cli, failing):
    # We are stopped meanwhile, so that what we find is one write, and then a batch of two: the stranger's and the command's.
    script = "kill -STOP $PPID; echo good; echo evil >&77; echo again; kill -CONT $PPID"
    done = cli("bash", "-c", script, env=failing(STRANGER_FD=77))
    assert (done.returncode, done.stdout, done.stderr) == (0, b"good\nagain\n", b"")


def test_a_datagram_from_another_socket_is_ignored_alone(cli, failing):
    script = "kill -STOP $PPID; echo evil >&77; kill -CONT $PPID; exit 3"
    done = cli("bash", "-c", script, env=failing(STRANGER_FD=77))
    assert (done.returncode, done.stdout, done.stderr) == (3, b"", b"")


def test_after_the_start_no_path_exists(cli):
    folder = os.environ["TMPDIR"]
    assert cli("ls", "-a", folder).stdout == b".\n..\n"
