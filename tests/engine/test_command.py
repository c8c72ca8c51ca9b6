"""One command from spawn to outcome."""

import gc
import os
import signal

import pytest

from dtee_async.core.write import Stream
from dtee_async.engine.command import Command, Phase
from dtee_async.engine.selectloop import SelectLoop
from dtee_async.errors import CaptureError, CommandNotFoundError
from dtee_async.output.file import FileOutput, open_file
from dtee_async.process.group import signal_group
from dtee_async.process.spawn import SpawnPlan
from dtee_async.testing import RecordingOutput, ScriptedTransport, batch_of
from dtee_async.transport.datagram import DatagramTransport
from dtee_async.transport.recvmmsg import ReceiveBuffer


def run(argv, *outputs, linger_s=0.0, transport=None):
    """Run a command to its end; its outcome."""
    done = []
    with SelectLoop() as loop:
        command = Command(loop, transport or DatagramTransport(ReceiveBuffer()), outputs, lambda *_: None, done.append, linger_s=linger_s)
        command.start(SpawnPlan(argv))
        loop.run_until(lambda: bool(done))
    assert command.phase is Phase.DONE
    assert all(output.closed == 1 for output in outputs)
    return done[0]


def shell(script, **options):
    output = RecordingOutput()
    return run(["sh", "-c", script], output, **options), output


def test_everything_that_the_child_left_in_the_queue_is_received_after_its_exit():
    outcome, output = shell("for i in 1 2 3 4 5 6 7 8 9; do echo $i; echo $i >&2; done; exit 7")
    assert outcome.exit.returncode == 7
    assert output.data() == b"".join(b"%d\n%d\n" % (i, i) for i in range(1, 10))
    assert output.exit == outcome.exit


def test_a_death_by_signal_and_the_resource_usage_are_known():
    outcome, _ = shell("kill -KILL $$")
    assert outcome.exit.signal == signal.SIGKILL
    assert outcome.exit.max_rss_bytes > 0
    assert outcome.duration_s > 0


def test_one_command_does_not_wait_for_a_writer_that_is_left():
    outcome, output = shell("(sleep 0.2; echo late; exec sleep 30) & echo $!; echo now")
    pid, rest = output.data().split(b"\n", 1)
    os.kill(int(pid), signal.SIGKILL)
    assert rest == b"now\n"


def test_lingering_gets_the_tail_of_a_process_substitution():
    output = RecordingOutput()
    outcome = run(["bash", "-c", "exec > >(sed 's/^/> /'); echo one; echo two"], output, linger_s=5.0)
    assert output.data() == b"> one\n> two\n"
    assert not outcome.writers_left
    assert outcome.duration_s < 5


def test_the_path_of_a_write_makes_no_cyclic_garbage(programs, tmp_path):
    files = [FileOutput(open_file(str(tmp_path / str(stream)), append=False), stream, "file") for stream in (*Stream, None)]
    done = []
    with SelectLoop() as loop:
        command = Command(loop, DatagramTransport(ReceiveBuffer()), files, lambda *_: None, done.append, linger_s=0)
        gc.collect()
        gc.disable()
        try:
            command.start(SpawnPlan([str(programs / "writes"), "5000", "64", "3"]))
            loop.run_until(lambda: bool(done))
            garbage = gc.collect()
        finally:
            gc.enable()
    assert (tmp_path / "None").stat().st_size == 5000 * 64
    assert garbage < 100  # the start of a process leaves some; a cycle a batch would leave hundreds


def test_a_writer_that_stays_is_said_and_is_not_waited_for_longer_than_agreed():
    output = RecordingOutput()
    outcome = run(["sh", "-c", "sleep 30 & echo $!"], output, linger_s=0.05)
    os.kill(int(output.data()), signal.SIGKILL)
    assert outcome.writers_left


def test_a_writer_that_never_stops_does_not_keep_us():
    output = RecordingOutput()
    outcome = run(["sh", "-c", "yes & echo $! >&2; sleep 0.05"], output, linger_s=0.05)
    os.kill(int(output.data(Stream.STDERR)), signal.SIGKILL)
    assert outcome.writers_left
    assert output.data(Stream.STDOUT).replace(b"y\n", b"") == b""


def test_a_command_that_is_not_there_can_be_ended_as_if_it_had_said_so():
    output, done = RecordingOutput(), []
    with SelectLoop() as loop:
        command = Command(loop, DatagramTransport(ReceiveBuffer()), [output], lambda *_: None, done.append, linger_s=0)
        with pytest.raises(CommandNotFoundError) as caught:
            command.start(SpawnPlan(["/nonexistent/command", "x"]))
        command.end_unstarted(66, b"not found\n")
    assert isinstance(caught.value, FileNotFoundError)
    assert caught.value.filename == "/nonexistent/command"
    assert output.data(Stream.STDERR) == b"not found\n"
    assert done[0].exit.returncode == 66
    assert output.closed == 1


def test_an_output_that_is_full_is_waited_for_and_the_order_is_kept():
    class Slow(RecordingOutput):
        def write(self, batch):
            super().write(batch)
            self.flow.pause()
            loops[0].call_later(0.001, self.flow.resume)

    loops, done, output = [], [], Slow()
    with SelectLoop() as loop:
        loops.append(loop)
        command = Command(loop, DatagramTransport(ReceiveBuffer()), [output], lambda *_: None, done.append, linger_s=1)
        command.start(SpawnPlan(["sh", "-c", "i=0; while [ $i -lt 300 ]; do echo $i; i=$((i+1)); done"]))
        loop.run_until(lambda: bool(done))
    assert output.data() == b"".join(b"%d\n" % i for i in range(300))


def test_giving_up_drops_what_is_stuck_and_counts_it(fifo):
    class Stuck(RecordingOutput):
        def write(self, batch):
            super().write(batch)
            self.flow.pause()

        def close(self):
            super().close()
            return 5

    done, output, go, said = [], Stuck(), fifo("go"), fifo("said")
    with SelectLoop() as loop:
        command = Command(loop, DatagramTransport(ReceiveBuffer()), [output], lambda *_: None, done.append, linger_s=1)
        pid = command.start(SpawnPlan(["sh", "-c", f"echo 1; cat {go}; echo 2; echo >{said}; exec sleep 100"]))
        loop.run_until(lambda: bool(output.writes))
        go.write_text("")
        said.read_text()
        signal_group(pid, signal.SIGTERM)
        command.give_up()
        loop.run_until(lambda: bool(done))
    assert [(dropped, size) for dropped, size in done[0].dropped] == [(output, 7)]  # 5 that it held, and 2 that it never had
    assert done[0].exit.signal == signal.SIGTERM


def test_an_error_of_the_capture_is_in_the_outcome():
    transport = ScriptedTransport([batch_of([(Stream.STDOUT, b"x")]), CaptureError(105, "lost")])
    outcome = run(["true"], RecordingOutput(), transport=transport)
    assert outcome.error.strerror == "lost"


def test_lingering_looks_again_until_the_writers_are_gone():
    transport = ScriptedTransport()
    transport.left = 4
    outcome = run(["true"], RecordingOutput(), transport=transport, linger_s=30)
    assert not outcome.writers_left
    assert transport.left == -1
