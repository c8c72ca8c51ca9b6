"""``dtee-async --jobs``: what is on the screen, in the files and in the log, how it ends, and how it is stopped."""

import fcntl
import json
import os
import pty
import re
import select
import signal
import subprocess
import sys
import termios
import time
from pathlib import Path

import pytest

BIN = Path(sys.executable).parent


@pytest.fixture
def jobs(cli, tmp_path, loop_name):
    """Write a jobs file and run it: stdout, stderr without the log, the log's events, and the status."""

    class Jobs:
        def write(self, text):
            (tmp_path / "jobs.toml").write_text(text)

        def words(self, *words, form="json"):
            return ["dtee-async", "--jobs", "jobs.toml", "--loop", loop_name, "--log-format", form, *words]

        def run(self, text, *words, **options):
            self.write(text)
            return split(cli(*self.words(*words), **options))

        def popen(self, text, **options):
            self.write(text)
            return subprocess.Popen(self.words(), cwd=tmp_path, **options)

    return Jobs()


def split(done):
    lines = (done.stderr or b"").splitlines(keepends=True)
    done.log = [json.loads(line) for line in lines if line.startswith(b"{")]
    done.stderr = b"".join(line for line in lines if not line.startswith(b"{"))
    return done


def events(done, name):
    return [event for event in done.log if event["event"] == name]


def test_each_stream_goes_to_ours_with_the_padded_name_and_the_files_get_the_order(jobs, tmp_path):
    done = jobs.run(
        """
        [jobs.web]
        command = "echo a; echo b >&2; echo c"
        combined_overwrite = "web.log"
        out_append = ["out1", "out2"]
        [jobs.database]
        command = ["sh", "-c", "echo hello"]
        """
    )
    assert sorted(done.stdout.splitlines()) == [b"database | hello", b"web      | a", b"web      | c"]
    assert done.stderr == b"web      | b\n"
    assert done.returncode == 0
    assert (tmp_path / "web.log").read_bytes() == b"a\nb\nc\n"
    assert (tmp_path / "out1").read_bytes() == (tmp_path / "out2").read_bytes() == b"a\nc\n"


def test_in_one_pipe_the_order_across_the_streams_is_kept(jobs):
    done = jobs.run(
        '[jobs.j]\ncommand = "for i in 1 2 3 4 5; do echo o$i; echo e$i >&2; done"', stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )
    lines = [line for line in done.stdout.splitlines() if line.startswith(b"j | ")]
    assert lines == [b"j | %c%d" % (stream, i) for i in range(1, 6) for stream in b"oe"]


def test_a_partial_line_is_shown_by_itself_and_goes_on_with_another_mark(jobs, tmp_path):
    os.mkfifo(tmp_path / "go")
    child = jobs.popen(
        '[jobs.a]\ncommand = "printf prompt; cat go; echo answer"\n[jobs.b]\ncommand = "cat"',
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    )
    assert child.stdout.readline() == b"a | prompt\n"
    (tmp_path / "go").write_text("")
    assert child.communicate()[0] == b"a : answer\n"


def test_a_long_line_is_split_and_bytes_that_are_not_text_pass(jobs):
    done = jobs.run("""[jobs.j]\ncommand = ['perl', '-e', 'print "\\xff\\x00" x 50_000, "\\n"']""")
    first, second = done.stdout.splitlines()
    assert first == b"j | " + b"\xff\x00" * 32_768
    assert second == b"j : " + b"\xff\x00" * (50_000 - 32_768)


def test_lines_of_many_jobs_are_never_mixed(jobs, programs):
    text = "".join(f'[jobs.j{i}]\ncommand = ["{programs}/random_writer", "{i}", "300", "70000"]\n' for i in range(8))
    done = jobs.run(text)
    bodies = {}
    for line in done.stdout.splitlines():
        name, mark, piece = line[:2], line[2:5], line[5:]
        assert mark in (b" | ", b" : ")
        if mark == b" | ":
            bodies.setdefault(name, []).append(piece)
        else:
            bodies[name][-1] += piece
    for lines in bodies.values():
        for line in lines:
            head = re.match(rb"(\d+):1:(\d+):", line)
            assert len(line) + 1 == max(int(head[2]), len(head[0]) + 1)


def test_the_status_is_that_of_the_first_failure_and_the_log_names_it(jobs):
    done = jobs.run('[jobs.good]\ncommand = "true"\n[jobs.bad]\ncommand = "exit 3"\n[jobs.killed]\ncommand = "sleep 0.2; kill -KILL $$"')
    assert done.returncode == 3
    exited = {event["job"]: event for event in events(done, "job exited")}
    assert exited["good"]["status"] == 0
    assert exited["bad"]["status"] == 3
    assert exited["killed"]["signal"] == "SIGKILL"
    started = events(done, "job started")
    assert len(started) == 3
    assert all(event["capture"] == "ordered" and event["exact"] is True for event in started)
    assert jobs.run('[jobs.killed]\ncommand = "kill -KILL $$"').returncode == 137


def test_a_command_that_is_not_there_is_named_and_the_others_run(jobs):
    done = jobs.run('[jobs.a]\ncommand = ["nonexistent-command"]\n[jobs.b]\ncommand = "echo b"')
    assert done.stdout == b"b | b\n"
    assert done.returncode == 66
    (failed,) = events(done, "job failed to start")
    assert (failed["job"], failed["error"]) == ("a", "nonexistent-command: No such file or directory")


def test_a_quiet_job_says_nothing_unless_there_is_something_to_report(jobs):
    text = "".join(f'[jobs.{name}]\nquiet = true\ncommand = "{command}"\n' for name, command in QUIET.items())
    done = jobs.run(text, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    lines = [line for line in done.stdout.decode().splitlines() if not line.startswith("{")]
    assert sorted(lines) == sorted(["failing | 1", "warning | 1", "warning | 2", "warning | 3"])
    assert lines.index("warning | 1") < lines.index("warning | 2") < lines.index("warning | 3")
    assert '"job": "silent"' not in done.stdout.decode()


QUIET = {"silent": "echo 1", "failing": "echo 1; exit 1", "warning": "echo 1; echo 2 >&2; echo 3"}


def test_stdin_is_empty_and_there_is_no_terminal(jobs):
    done = jobs.run('[jobs.j]\ncommand = "cat; echo x >/dev/tty || echo no tty"')
    assert done.stdout == b"j | no tty\n"


def test_env_file_environment_and_working_dir_are_relative_to_the_file(jobs, tmp_path, cli, loop_name):
    folder = tmp_path / "project" / "sub"
    folder.mkdir(parents=True)
    (tmp_path / "project" / "env").write_text("A=file\nB=file\n")
    (tmp_path / "project" / "jobs.toml").write_text(
        '[jobs.j]\ncommand = "echo $A $B; pwd"\nworking_dir = "sub"\nenv_file = "env"\nenvironment = { B = "table" }\nout_append = "log"'
    )
    cli("--jobs", "project/jobs.toml", "--loop", loop_name)
    assert (tmp_path / "project" / "log").read_text() == f"file table\n{folder}\n"


def test_check_says_so_and_runs_nothing(jobs, tmp_path):
    done = jobs.run('[jobs.j]\ncommand = "touch ran"\nout_overwrite = "log"', "--check")
    assert (done.returncode, done.stdout) == (0, b"jobs.toml: 1 job, nothing wrong\n")
    assert [path.name for path in tmp_path.iterdir()] == ["jobs.toml"]


def test_a_wrong_file_is_one_clear_message_and_nothing_runs(jobs, tmp_path):
    done = jobs.run('[jobs.a]\ncommand = "touch ran"\n[jobs.web]\ncommand = "true"\nout_apend = "x"')
    assert done.returncode == 78
    assert done.stderr == b"dtee-async: jobs.toml: jobs.web.out_apend: unknown key; did you mean out_append?\n"
    assert [path.name for path in tmp_path.iterdir()] == ["jobs.toml"]


def test_a_file_that_cannot_be_opened_is_said_and_nothing_runs(jobs, tmp_path):
    done = jobs.run('[jobs.a]\ncommand = "touch ran"\nout_append = "/proc/nothing"')
    assert done.returncode == 73
    assert done.stderr == b"dtee-async: /proc/nothing: No such file or directory\n"
    assert [path.name for path in tmp_path.iterdir()] == ["jobs.toml"]


def test_a_full_device_is_an_event_and_74(jobs):
    done = jobs.run('[jobs.j]\ncommand = "echo x"\nout_append = "/dev/full"')
    assert done.returncode == 74
    (failed,) = events(done, "output failed")
    assert (failed["job"], failed["output"], failed["error"]) == ("j", "/dev/full", "No space left on device")


READY = '[jobs.{name}]\ncommand = "{trap} sleep 100 & echo ready; wait; wait"\n'


def ready(child, count):
    for _ in range(count):
        assert child.stdout.readline().endswith(b"ready\n")


def finish(child):
    out, err = child.communicate(timeout=20)
    return split(subprocess.CompletedProcess(child.args, child.returncode, out, err))


def no_group_is_left(done):
    from dtee_async.process.group import members

    return all(members(event["pid"]) == [] for event in events(done, "job started"))


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_stops_every_group_and_then_we_die_by_it(jobs, number):
    child = jobs.popen("".join(READY.format(name=name, trap="") for name in "abc"), stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    ready(child, 3)
    child.send_signal(number)
    done = finish(child)
    assert done.returncode == -number
    assert no_group_is_left(done)
    assert [event["signal"] for event in events(done, "job exited")] == ["SIGTERM"] * 3


@pytest.mark.parametrize("second", [signal.SIGINT, signal.SIGTERM])
def test_a_second_signal_kills_at_once(jobs, second):
    trap = "trap '' TERM;"
    child = jobs.popen(READY.format(name="stubborn", trap=trap), stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    ready(child, 1)
    child.send_signal(signal.SIGINT)
    while b"stopping all jobs" not in child.stderr.readline():
        pass
    child.send_signal(second)
    out, err = child.communicate(timeout=5)
    assert child.returncode == -signal.SIGINT
    assert b"killing all jobs" in err
    assert b'"signal": "SIGKILL"' in err


def test_a_closed_own_stdout_stops_all_and_we_die_by_sigpipe(jobs):
    child = jobs.popen(READY.format(name="a", trap="") + '[jobs.yes]\ncommand = "yes"', stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    child.stdout.read(100)
    child.stdout.close()
    done = split(subprocess.CompletedProcess(child.args, child.wait(20), b"", child.stderr.read()))
    child.stderr.close()
    assert done.returncode == -signal.SIGPIPE
    assert no_group_is_left(done)


def test_ignored_hangups_stay_ignored(jobs, tmp_path):
    os.mkfifo(tmp_path / "go")
    jobs.write('[jobs.j]\ncommand = "echo ready; cat go"')
    command = ["sh", "-c", "trap '' HUP; exec \"$@\"", "sh", *jobs.words()]
    child = subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    ready(child, 1)
    child.send_signal(signal.SIGHUP)
    (tmp_path / "go").write_text("done\n")
    assert child.communicate()[0] == b"j | done\n"
    assert child.returncode == 0


def test_what_is_left_running_is_named_and_left_alone(jobs):
    done = jobs.run('[jobs.j]\ncommand = "sleep 100 >/dev/null 2>&1 & echo $!"')
    pid = int(done.stdout.split()[-1])
    os.kill(pid, signal.SIGKILL)
    (left,) = events(done, "job left running")
    assert left["processes"] in ([f"sleep ({pid})"], [f"sh ({pid})"])


@pytest.mark.parametrize("what", ["a probe", "a shutdown command"])
def test_killed_by_kill_what_runs_for_its_jobs_goes_too(jobs, tmp_path, what):
    os.mkfifo(tmp_path / "life")
    # That the job speaks of it shows that we are past its start.
    helper = 'command = "exec 3>life; until kill -USR1 $(cat pid); do sleep 0.01; done; exec sleep 1000"'
    probe = f"readiness_probe = {{exec = {{{helper}}}, timeout_seconds = 1000}}"
    child = jobs.popen(
        f"""
        [jobs.j]
        command = "trap 'echo is ready' USR1; echo $$ >pid; exec 3>life; echo ready; while :; do sleep 0.01; done"
        {probe if what == "a probe" else "shutdown." + helper}
        """,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    )
    with open(tmp_path / "life", "rb") as life:
        ready(child, 1)
        if what == "a shutdown command":
            child.send_signal(signal.SIGTERM)
        ready(child, 1)
        child.kill()
        assert life.read() == b""  # nobody has it open any more
    child.wait()
    child.stdout.close()


def queued_bytes(pipe):
    return int.from_bytes(fcntl.ioctl(pipe, termios.FIONREAD, bytes(4)), sys.byteorder)


def test_a_stuck_reader_of_our_stdout_stops_nobody_else_and_what_it_missed_is_counted(jobs, tmp_path):
    text = '[jobs.loud]\ncommand = "yes"\n[jobs.good]\ncommand = "seq 100000 >numbers; echo done"\nquiet = true\n'
    child = jobs.popen(text, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    numbers = tmp_path / "numbers"
    while not numbers.exists() or numbers.stat().st_size != 588_895:  # the other job has gone its way
        pass
    while queued_bytes(child.stdout) != 65_536:  # the pipe is full
        pass
    child.send_signal(signal.SIGINT)
    child.send_signal(signal.SIGINT)
    err = child.stderr.read()
    assert child.wait(20) == -signal.SIGINT
    assert re.search(rb"dtee-async: \d+ bytes of output were not shown\n", err)
    child.stdout.close()
    child.stderr.close()


@pytest.mark.parametrize("reader_comes", [True, False])
def test_a_fifo_that_nobody_reads_yet_holds_only_its_own_job(jobs, tmp_path, reader_comes):
    os.mkfifo(tmp_path / "fifo")
    text = '[jobs.held]\ncommand = "seq 10; echo >written; seq 11 100000"\nout_append = "fifo"\nquiet = true\n[jobs.free]\ncommand = "seq 3; echo ready"\n'
    child = jobs.popen(text, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert [child.stdout.readline() for _ in range(4)][-1] == b"free | ready\n"
    if reader_comes:
        assert (tmp_path / "fifo").read_bytes() == b"".join(b"%d\n" % i for i in range(1, 100_001))
        assert finish(child).returncode == 0
    else:
        while not (tmp_path / "written").exists():
            pass
        child.send_signal(signal.SIGINT)
        while b"stopping all jobs" not in child.stderr.readline():
            pass
        child.send_signal(signal.SIGINT)
        done = finish(child)
        assert done.returncode == -signal.SIGINT
        (dropped,) = [event for event in events(done, "output dropped") if event["output"].endswith("fifo")]
        assert dropped["bytes"] > 0


def test_a_reader_of_a_fifo_that_leaves_is_a_failure_and_the_job_ends(jobs, tmp_path):
    os.mkfifo(tmp_path / "left")
    os.mkfifo(tmp_path / "go")
    child = jobs.popen(
        '[jobs.j]\ncommand = "echo x; cat go; echo y; echo z"\nout_overwrite = "left"', stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    with open(tmp_path / "left", "rb", 0) as reader:
        assert reader.read(2) == b"x\n"
    (tmp_path / "go").write_text("")
    done = finish(child)
    assert (done.returncode, done.stdout) == (74, b"j | x\nj | y\nj | z\n")
    assert [event["error"] for event in events(done, "output failed")] == ["Broken pipe"]


def test_with_a_closed_stdin_they_run_and_end_as_ever(jobs, tmp_path):
    jobs.write('[jobs.j]\ncommand = "cat; exit 3"')
    done = subprocess.run(["sh", "-c", 'exec "$@" <&-', "sh", *jobs.words()], cwd=tmp_path, capture_output=True)
    assert (done.returncode, b"ssertion" in done.stderr) == (3, False)


def on_a_terminal(words, tmp_path, environment):
    """Run on a pseudo-terminal; what it shows."""
    ours, theirs = pty.openpty()
    attributes = termios.tcgetattr(theirs)
    attributes[1] &= ~termios.OPOST
    termios.tcsetattr(theirs, termios.TCSANOW, attributes)
    child = subprocess.Popen(words, cwd=tmp_path, stdin=theirs, stdout=theirs, stderr=theirs, env=environment, start_new_session=True)
    os.close(theirs)
    shown = b""
    while True:
        try:
            data = os.read(ours, 65536)
        except OSError:  # EIO: the last process has closed it
            break
        shown += data
    os.close(ours)
    return child.wait(), shown


@pytest.mark.parametrize(("variables", "coloured"), [({}, True), ({"NO_COLOR": "1"}, False), ({"TERM": "dumb"}, False)])
def test_names_are_coloured_on_a_terminal_unless_told_otherwise(jobs, tmp_path, variables, coloured):
    jobs.write('[jobs.j]\ncommand = "echo x"')
    status, shown = on_a_terminal(jobs.words(), tmp_path, os.environ | {"TERM": "xterm"} | variables)
    assert status == 0
    assert (b"\x1b[36mj |\x1b[0m x\n" if coloured else b"j | x\n") in shown


def test_colour_can_be_forced(jobs):
    done = jobs.run('[jobs.j]\ncommand = "echo x"', env=os.environ | {"FORCE_COLOR": "1"})
    assert done.stdout == b"\x1b[36mj |\x1b[0m x\n"


def test_the_flags_of_a_shared_terminal_or_pipe_are_not_touched(jobs, tmp_path):
    reader, writer = os.pipe()
    jobs.run('[jobs.j]\ncommand = "echo x"', stdout=writer, stderr=writer)
    assert fcntl.fcntl(writer, fcntl.F_GETFL) & os.O_NONBLOCK == 0
    os.close(writer)
    os.close(reader)


def test_own_stdout_in_a_file_is_appended_to_where_it_stands(jobs, tmp_path):
    log = os.open(tmp_path / "log", os.O_RDWR | os.O_CREAT)
    os.write(log, b"before\n")
    jobs.run('[jobs.j]\ncommand = "echo x"', stdout=log, stderr=subprocess.DEVNULL)
    os.write(log, b"after\n")
    os.close(log)
    assert (tmp_path / "log").read_bytes() == b"before\nj | x\nafter\n"


def test_inside_one_command_and_around_one_it_is_exact(jobs, cli, tmp_path, programs, random_writes):
    combined = random_writes(9, 300, 100_000)[0]
    jobs.write(
        f'[jobs.j]\ncommand = ["dtee-async", "-C", "{tmp_path}/in", "{programs}/random_writer", "9", "300", "100000"]\ncombined_overwrite = "out"\n'
    )
    cli("-C", "all", *jobs.words())
    assert (tmp_path / "in").read_bytes() == (tmp_path / "out").read_bytes() == combined
    shown = b""
    for line in (tmp_path / "all").read_bytes().splitlines(keepends=True):
        if line.startswith(b"j | "):
            shown += line[4:]
        elif line.startswith(b"j : "):
            shown = shown[:-1] + line[4:]
    assert shown == combined


def test_twenty_jobs_at_once_lose_nothing_and_keep_every_order(jobs, tmp_path, programs, random_writes):
    table = '[jobs.j{i}]\ncommand = ["{p}/random_writer", "{i}", "500", "100000"]\ncombined_overwrite = "{i}.c"\nout_overwrite = "{i}.o"\nerr_overwrite = "{i}.e"\n'
    done = jobs.run("".join(table.format(i=i, p=programs) for i in range(20)), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    assert done.returncode == 0
    for i in range(20):
        assert tuple((tmp_path / f"{i}.{kind}").read_bytes() for kind in "coe") == random_writes(i, 500, 100_000)


@pytest.mark.parametrize("limit", [16, 24, 32, 48, 64, 100])
def test_too_few_fds_are_said_and_never_a_crash_or_a_hang(jobs, tmp_path, limit):
    table = '[jobs.j{i}]\ncommand = "echo {i}"\ncombined_overwrite = "{i}.c"\nout_overwrite = "{i}.o"\n'
    jobs.write("".join(table.format(i=i) for i in range(12)))
    words = ["sh", "-c", f'ulimit -n {limit}; exec "$@"', "sh", *jobs.words()]
    done = subprocess.run(words, cwd=tmp_path, capture_output=True, timeout=30)
    assert b"Traceback" not in done.stderr
    assert b"internal error" not in done.stderr
    if done.returncode:
        assert b"Too many open files" in done.stderr
    else:
        assert all((tmp_path / f"{i}.c").read_text() == f"{i}\n" for i in range(12))


# Which jobs, and how many at once.

CHAIN = """
[jobs.web]
command = "echo web"
depends_on.db.condition = "process_completed"
[jobs.db]
command = "echo db"
[jobs.worker]
command = "echo worker"
depends_on.web.condition = "process_started"
[jobs.off]
command = "echo off"
disabled = true
"""


def names(done, event="job started"):
    return sorted(each["job"] for each in events(done, event))


@pytest.mark.parametrize(
    ("words", "started"),
    [
        ([], ["db", "web", "worker"]),
        (["web"], ["db", "web"]),
        (["off", "db"], ["db", "off"]),
        (["--no-deps", "web", "worker"], ["web", "worker"]),
        (["--except", "worker"], ["db", "web"]),
        (["--except", "db", "--except=off"], ["web", "worker"]),
        (["--except", "web", "worker"], ["db", "worker"]),
    ],
)
def test_the_jobs_that_are_named_are_run_with_what_they_depend_on(jobs, words, started):
    done = jobs.run(CHAIN, *words)
    assert names(done) == started
    assert done.returncode == 0
    assert sorted(line.split(b"|")[0].strip().decode() for line in done.stdout.splitlines()) == started


NEEDS_DISABLED = """
[jobs.db]
command = "echo db"
disabled = true
[jobs.web]
command = "echo web"
depends_on = ["db"]
[jobs.other]
command = "echo other"
"""


@pytest.mark.parametrize(
    ("words", "started"),
    [
        (["db"], ["db"]),
        (["web", "db"], ["db", "web"]),
        (["other"], ["other"]),
        (["--no-deps", "web"], ["web"]),
        (["--except", "db"], ["other", "web"]),
    ],
)
def test_who_depends_on_a_disabled_job_is_no_obstacle_for_a_choice_without_that(jobs, words, started):
    done = jobs.run(NEEDS_DISABLED, *words)
    assert (done.returncode, names(done)) == (0, started)


@pytest.mark.parametrize("words", [[], ["web"]])
def test_who_depends_on_a_disabled_job_cannot_be_chosen_without_it(jobs, words):
    done = jobs.run(NEEDS_DISABLED, *words)
    text = b"dtee-async: jobs.web.depends_on.db: db is disabled: enable it, or choose it by its name\n"
    assert (done.returncode, done.stdout, done.stderr) == (78, b"", text)


@pytest.mark.parametrize(
    ("command", "status"), [('["/etc/passwd"]', 66), ('["/"]', 66), ('["/no/such"]', 66), ('"true"\nuser = "nobody-here"', 71)]
)
def test_the_status_of_a_job_that_cannot_be_started_is_that_of_one_command(jobs, command, status):
    assert jobs.run(f"[jobs.j]\ncommand = {command}").returncode == status


def test_a_name_that_no_job_has_is_said_and_nothing_runs(jobs):
    done = jobs.run(CHAIN, "wbe")
    assert (done.returncode, done.stdout) == (78, b"")
    assert done.stderr == b"dtee-async: wbe: no job has this name; did you mean web?\n"


def test_when_all_are_left_out_nothing_is_left_to_run(jobs):
    done = jobs.run('[jobs.a]\ncommand = "true"', "--except", "a")
    assert (done.returncode, done.stderr) == (78, b"dtee-async: no job is left to run: all are disabled or left out\n")


@pytest.mark.parametrize(
    ("words", "shown"),
    [
        ([], b"jobs.toml: 3 jobs, nothing wrong\n1. db\n2. web\n3. worker\n"),
        (["web"], b"jobs.toml: 2 jobs, nothing wrong\n1. db\n2. web\n"),
        (["--except", "web"], b"jobs.toml: 2 jobs, nothing wrong\n"),
    ],
)
def test_check_shows_the_order_of_the_starts(jobs, words, shown):
    done = jobs.run(CHAIN, "--check", *words)
    assert (done.returncode, done.stdout, done.stderr) == (0, shown, b"")


def test_several_files_are_one(jobs, cli, tmp_path):
    (tmp_path / "more.toml").write_text('[jobs.web]\ncommand = "echo other"\n[jobs.mail]\ncommand = "echo mail"\n')
    jobs.write(CHAIN)
    done = split(cli(*jobs.words("--jobs", "more.toml")))
    assert sorted(done.stdout.splitlines()) == [b"db     | db", b"mail   | mail", b"web    | other", b"worker | worker"]


def test_a_procfile_is_run_as_it_is(cli, tmp_path, loop_name):
    (tmp_path / "Procfile").write_text(
        "web: echo $PORT $A; echo >go; exec sleep 1000\nworker: until test -e go; do :; done; echo x >&2; exit 3\n"
    )
    (tmp_path / ".env").write_text("A=b\n")
    done = split(cli("--procfile", "Procfile", "--loop", loop_name, "--log-format", "json"))
    assert re.fullmatch(rb"web    \| \d+ b\n", done.stdout)
    assert (done.stderr, done.returncode) == (b"worker | x\n", 3)


@pytest.mark.parametrize("how", ["file", "option"])
def test_no_more_than_so_many_run_at_once(jobs, how):
    text = "".join(f'[jobs.j{i}]\ncommand = "true"\n' for i in range(8))
    done = jobs.run(f"max_parallel = 2\n{text}") if how == "file" else jobs.run(f"max_parallel = 5\n{text}", "-j", "2")
    running = [0]
    for event in done.log:
        running.append(running[-1] + (event["event"] == "job started") - (event["event"] == "job exited"))
    assert (max(running), running[-1], len(events(done, "job exited"))) == (2, 0, 8)


# What is said at the end.

MIXED = """
[jobs.good]
command = "echo 123; echo 4567 >&2"
[jobs.bad]
command = "echo x; exit 3"
availability = { restart = "on_failure", backoff_seconds = 0.01, max_restarts = 2 }
[jobs.never]
command = "true"
depends_on.bad.condition = "process_completed_successfully"
[jobs.quiet]
command = "true"
quiet = true
"""


def test_the_summary_is_a_table_in_the_console(jobs, cli):
    jobs.write(MIXED)
    done = cli(*jobs.words(form="console"))
    lines = done.stderr.decode().splitlines()
    table = [re.split(" {2,}", line) for line in lines[-4:]]
    assert table[0] == ["job", "state", "status", "restarts", "time", "CPU", "memory", "out", "err"]
    assert [row[:4] for row in table[1:]] == [["good", "Completed", "0", "0"], ["bad", "Failed", "3", "2"], ["never", "Skipped"]]
    assert [row[-2:] for row in table[1:3]] == [["4 B", "5 B"], ["6 B", "0 B"]]
    assert "\x1b" not in done.stderr.decode()


def test_the_summary_is_an_event_for_each_job_in_json(jobs):
    done = jobs.run(MIXED)
    found = {event["job"]: event for event in events(done, "job summary")}
    assert list(found) == ["good", "bad", "never"]
    keys = ("state", "status", "restarts", "out_bytes", "err_bytes")
    assert [found["good"][key] for key in keys] == ["Completed", 0, 0, 4, 5]
    assert [found["bad"][key] for key in keys] == ["Failed", 3, 2, 6, 0]
    assert [found["never"][key] for key in keys] == ["Skipped", None, 0, 0, 0]
    assert found["good"]["max_rss_bytes"] > 100_000
    assert done.log.index(events(done, "all jobs ended")[0]) < done.log.index(found["good"])


@pytest.mark.parametrize("form", ["json", "console"])
def test_there_is_no_summary_if_none_is_wanted(jobs, cli, form):
    jobs.write(MIXED)
    shown = cli(*jobs.words("--no-summary", form=form)).stderr
    assert b"all jobs ended" in shown
    assert b"job summary" not in shown
    assert b"restarts  " not in shown


@pytest.mark.parametrize(
    ("text", "status"),
    [
        (MIXED, 3),
        ('[jobs.a]\ncommand = "exit 3"\nsuccess_exit_codes = [0, 3]', 0),
        ('[jobs.a]\ncommand = "true"\nsd_notify = true\n[jobs.b]\ncommand = "true"\ndepends_on.a.condition = "process_healthy"', 69),
        ('[jobs.a]\ncommand = "exit 4"\navailability.restart = "exit_on_failure"\n[jobs.b]\ncommand = "sleep 1000"', 4),
        ('[jobs.a]\ncommand = "exit 5"\navailability.exit_on_end = true\n[jobs.b]\ncommand = "sleep 1000"', 5),
        ('[jobs.a]\ncommand = "true"\navailability.exit_on_end = true\n[jobs.b]\ncommand = "sleep 1000"', 0),
    ],
)
def test_the_status_of_the_run(jobs, text, status):
    assert jobs.run(text).returncode == status


# A stack from its start to its end.

STACK = """
[jobs.web]
command = "cat ready; echo web; exec sleep 1000"
ready_log_line = "web"
depends_on = { db = { condition = "process_log_ready" }, migrate = { condition = "process_completed_successfully" } }
[jobs.migrate]
command = "cat ready; touch migrated; echo migrated"
depends_on.db.condition = "process_log_ready"
[jobs.db]
command = "echo up >ready; echo ready to accept; exec sleep 1000"
ready_log_line = "ready to"
[jobs.test]
command = "cat migrated; echo test"
depends_on.web.condition = "process_log_ready"
availability.exit_on_end = true
"""


def test_a_stack_starts_in_order_and_ends_in_the_reverse(jobs):
    done = jobs.run(STACK)
    assert done.returncode == 0
    order = [(event["event"].removeprefix("job "), event["job"]) for event in done.log if event["event"] in ("job started", "job exited")]
    assert order == [
        ("started", "db"),
        ("started", "migrate"),
        ("exited", "migrate"),
        ("started", "web"),
        ("started", "test"),
        ("exited", "test"),
        ("exited", "web"),
        ("exited", "db"),
    ]
    assert [event["because"] for event in events(done, "stopping all jobs")] == ["test has ended"]
    assert done.stdout.splitlines() == [
        b"db      | ready to accept",
        b"migrate | up",
        b"migrate | migrated",
        b"web     | up",
        b"web     | web",
        b"test    | test",
    ]


def test_a_job_that_crashes_is_started_again_and_its_files_have_all_of_it(jobs, tmp_path):
    text = """
    [jobs.j]
    command = "echo x >>count; echo out; echo err >&2; test $(grep -c x count) = 3"
    combined_overwrite = "all"
    out_append = "out"
    availability = { restart = "on_failure", backoff_seconds = 0.01 }
    """
    (tmp_path / "out").write_text("before\n")
    (tmp_path / "all").write_text("before, and longer than all that comes after it\n")
    done = jobs.run(text)
    assert done.returncode == 0
    assert (tmp_path / "all").read_bytes() == b"out\nerr\n" * 3
    assert (tmp_path / "out").read_bytes() == b"before\n" + b"out\n" * 3
    assert [event.get("attempt") for event in events(done, "job started")] == [None, 2, 3]
    assert done.stdout == b"j | out\n" * 3


def is_full(pipe):
    """Whether a write to it would wait."""
    writer = os.open(f"/proc/self/fd/{pipe.fileno()}", os.O_WRONLY | os.O_NONBLOCK)
    try:
        return not select.select([], [writer], [], 0)[1]
    finally:
        os.close(writer)


COUNTING = r"""
import os
with open("{name}.written", "wb", 0) as file:
    number = 0
    while True:
        os.write(1, b"%099d\n" % number)
        number += 1
        os.pwrite(file.fileno(), b"%9d" % number, 0)
"""


def test_a_stop_while_nobody_reads_our_stdout_is_in_time_and_the_files_have_what_was_captured(jobs, tmp_path):
    timeouts_s = {"a": 0.5, "b": 1, "c": 2}
    text = ""
    for name, timeout_s in timeouts_s.items():
        (tmp_path / f"{name}.py").write_text(COUNTING.format(name=name))
        text += f'[jobs.{name}]\ncommand = ["{sys.executable}", "-S", "{name}.py"]\ncombined_overwrite = "{name}.log"\n'
        text += f'capture = "ordered"\nshutdown.timeout_seconds = {timeout_s}\n'
    child = jobs.popen(text, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    while not is_full(child.stdout) or not all((tmp_path / f"{name}.written").exists() for name in timeouts_s):
        pass
    child.send_signal(signal.SIGTERM)
    began_s = time.monotonic()
    err = child.stderr.read()
    assert child.wait(20) == -signal.SIGTERM
    assert time.monotonic() - began_s < max(timeouts_s.values()) + 1
    done = split(subprocess.CompletedProcess(child.args, child.returncode, child.stdout.read(), err))
    child.stdout.close()
    child.stderr.close()
    assert {event["output"] for event in events(done, "output dropped")} <= {"terminal"}
    queue = int(Path("/proc/sys/net/unix/max_dgram_qlen").read_text())
    for name in timeouts_s:
        log = (tmp_path / f"{name}.log").read_bytes()
        lines = len(log) // 100
        assert log == b"".join(b"%099d\n" % number for number in range(lines))
        assert int((tmp_path / f"{name}.written").read_text() or 0) - lines <= queue + 2  # in the kernel's queue, when it was killed
        assert log.count(b"\n") >= done.stdout.count(f"{name} | ".encode()) - 1


@pytest.mark.root
def test_as_init_it_reaps_orphans_and_its_status_says_by_what_it_was_stopped(jobs, tmp_path):
    orphan = "while read -r _ _ _ parent _ </proc/$$/stat; test $parent != 1; do :; done; echo $$ >>pids"
    (tmp_path / "orphan").write_text(orphan)
    gone = "for pid in $(cat pids); do while test -e /proc/$pid; do :; done; done"
    jobs.write(f"""
    [jobs.j]
    command = '''for i in 1 2 3; do (sh orphan &); done; while test "$(cat pids | wc -l)" != 3; do :; done; {gone}; echo all; kill -TERM 1; sleep 1000'''
    """)
    words = ["unshare", "--pid", "--fork", "--kill-child", "--mount-proc", *jobs.words()]
    done = split(subprocess.run(words, cwd=tmp_path, capture_output=True, timeout=30))
    assert done.stdout.splitlines()[-1] == b"j | all"
    assert done.returncode == 128 + signal.SIGTERM


# What is imported, and when.


def imported(cli, *words):
    """The modules that a run of the real program has imported."""
    done = cli(*words, env=os.environ | {"PYTHONPROFILEIMPORTTIME": "1"})
    assert done.returncode == 0
    return {line.rpartition("|")[2].strip() for line in done.stderr.decode().splitlines() if line.startswith("import time:")}


HEAVY = {"httpx", "rich.console", "tabulate"}


def test_nothing_is_imported_before_it_is_needed(jobs, cli):
    jobs.write('[jobs.j]\ncommand = "true"\n')
    plain = imported(cli, *jobs.words("--no-summary"))
    assert "anyio" in plain
    assert not HEAVY & plain
    assert not HEAVY & imported(cli, *jobs.words("--check"))
    assert "tabulate" in imported(cli, *jobs.words(form="console"))


def test_one_command_imports_nothing_of_what_jobs_need(cli):
    found = imported(cli, "true")
    assert "dtee_async.cli.single" in found
    assert not {name for name in found if name.startswith("dtee_async.supervisor")}
    assert not (HEAVY | {"anyio", "asyncio", "structlog", "msgspec", "dotenv", "dtee_async.core.policy", "dtee_async.core.graph"}) & found
