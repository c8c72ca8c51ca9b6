"""Each output: its contract, and what is peculiar to it."""

import os
import subprocess
import sys
import threading

import pytest

from dtee_async.core.exit import Exit
from dtee_async.core.write import Stream
from dtee_async.engine.protocol import Capture
from dtee_async.engine.pumps import DirectFile, PumpProcess, ThreadedFile
from dtee_async.engine.selectloop import SelectLoop
from dtee_async.output.count import CountOutput, Counts
from dtee_async.output.file import FileOutput, open_file, truncate_file
from dtee_async.output.memory import MemoryOutput
from dtee_async.output.piped import PipedOutput
from dtee_async.output.spool import SpoolOutput
from dtee_async.output.standard import StandardOutput
from dtee_async.testing import RecordingOutput, batch_of, check_output

STREAMS = [Stream.STDOUT, Stream.STDERR, None]
OUT, ERR = Stream.STDOUT, Stream.STDERR


class Reader:
    """Reads a pipe to its end in a thread, slowly if asked to."""

    def __init__(self, fd, chunk=1 << 20):
        self.data = b""
        self._fd, self._chunk = fd, chunk
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self):
        while data := os.read(self._fd, self._chunk):
            self.data += data
        os.close(self._fd)

    def all(self):
        self._thread.join()
        return self.data


def collect(output):
    """A capture around an output, and the errors that it reports."""
    errors = []
    capture = Capture(None, [output], lambda _, error: errors.append(error))
    capture.open()
    return capture, errors


@pytest.mark.parametrize("stream", STREAMS)
def test_a_file_keeps_the_contract(tmp_path, stream):
    path = tmp_path / "file"
    check_output(lambda _: FileOutput(open_file(str(path), append=False), stream, "file"), path.read_bytes, stream=stream)


@pytest.mark.parametrize("append", [True, False])
@pytest.mark.parametrize("stream", STREAMS)
def test_a_file_behind_a_thread_keeps_the_contract(tmp_path, stream, append):
    path = tmp_path / "file"

    def make(loop):
        return PipedOutput(ThreadedFile(loop, open_file(str(path), append=append)), stream, "file")

    def read_back():
        for thread in threading.enumerate():
            if thread.name.startswith("dtee-async"):
                thread.join()
        return path.read_bytes()

    check_output(make, read_back, stream=stream)


@pytest.mark.parametrize("append", [True, False])
def test_a_file_behind_the_pump_process_keeps_the_contract(tmp_path, append):
    path = tmp_path / "file"
    path.write_bytes(b"old\n" if append else b"")

    class Pumped(PipedOutput):
        def close(self):
            left = super().close()
            pumps[0].close()
            return left

    pumps = []

    def make(loop):
        pumps.append(PumpProcess(loop))
        return Pumped(pumps[0].destination(open_file(str(path), append=append), str(path)), None, "file")

    check_output(make, lambda: path.read_bytes().removeprefix(b"old\n"), stream=None)
    assert path.read_bytes().startswith(b"old\n") is append


@pytest.mark.parametrize("chunk", [1 << 20, 777])
def test_a_pipe_keeps_the_contract_whatever_the_speed_of_its_reader(chunk):
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    thread = []

    def make(loop):
        thread.append(Reader(os.dup(reader), chunk))
        os.close(reader)
        return PipedOutput(DirectFile(writer), None, "pipe")

    # The read end belongs to the thread until it has read everything: it was open before, and is closed afterwards.
    with pytest.raises(AssertionError, match="fds are left open"):
        check_output(make, lambda: thread[0].all(), stream=None)


def test_memory_keeps_every_write_as_it_was_made():
    memory = MemoryOutput()
    capture, _ = collect(memory)
    data = bytearray(b"abc")
    batch = batch_of([(OUT, memoryview(data)[:2]), (ERR, b""), (OUT, memoryview(data)[2:])])
    capture.datagrams_received(batch)
    data[:] = b"???"
    capture.datagrams_received(batch_of([(ERR, b"d")]))
    captured = memory.captured()
    assert [(write.stream, bytes(write.data)) for write in captured] == [(OUT, b"ab"), (ERR, b""), (OUT, b"c"), (ERR, b"d")]
    assert captured.data == b"abcd"


def test_a_full_device_is_reported_once_and_tried_again(tmp_path):
    output = FileOutput(os.open("/dev/full", os.O_WRONLY), None, "/dev/full")
    capture, errors = collect(output)
    for _ in range(3):
        capture.datagrams_received(batch_of([(OUT, b"x")]))
    assert [error.strerror for error in errors] == ["No space left on device"]
    fd = os.open(tmp_path / "file", os.O_WRONLY | os.O_CREAT)
    os.dup2(fd, output._fd)
    os.close(fd)
    capture.datagrams_received(batch_of([(OUT, b"recovered")]))
    full = os.open("/dev/full", os.O_WRONLY)
    os.dup2(full, output._fd)
    os.close(full)
    capture.datagrams_received(batch_of([(OUT, b"x")]))
    assert len(errors) == 2
    assert (tmp_path / "file").read_bytes() == b"recovered"
    output.close()


@pytest.mark.parametrize("in_process", [True, False])
def test_a_full_device_behind_a_pump_is_reported_once_and_the_job_goes_on(in_process):
    errors = []
    with SelectLoop() as loop:
        pumps = PumpProcess(loop)
        full = os.open("/dev/full", os.O_WRONLY)
        output = PipedOutput(pumps.destination(full, "/dev/full") if in_process else ThreadedFile(loop, full), None, "/dev/full")
        capture = Capture(loop, [output], lambda _, error: errors.append(error))
        capture.open()
        for _ in range(5):
            capture.datagrams_received(batch_of([(OUT, b"x" * 50_000)]))
            loop.run_until(lambda: not capture.blocked)
        output.end(Exit(0))
        loop.run_until(lambda: not capture.blocked)
        assert output.close() == 0
        pumps.close()
    assert [error.strerror for error in errors] == ["No space left on device"]


def test_a_killed_pump_process_is_an_error_of_every_file_and_nothing_hangs(tmp_path):
    errors = []
    with SelectLoop() as loop:
        pumps = PumpProcess(loop)
        outputs = [PipedOutput(pumps.destination(open_file(f"{tmp_path}/{i}", append=False), str(i)), None, str(i)) for i in range(2)]
        capture = Capture(loop, outputs, lambda output, error: errors.append((output.name, error.strerror)))
        capture.open()
        capture.datagrams_received(batch_of([(OUT, b"x")]))
        pumps._process.kill()
        loop.run_until(lambda: len(errors) == 2)
        capture.datagrams_received(batch_of([(OUT, b"y")]))
        for output in outputs:
            output.end(Exit(0))
        loop.run_until(lambda: not capture.blocked)
        assert all(output.close() in (1, 2) for output in outputs)  # the pump may have read "x" before it was killed
    assert sorted(errors) == [(name, "the process that writes the files was killed") for name in "01"]


def test_a_stuck_pipe_pauses_and_its_bytes_are_counted_when_it_is_given_up():
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    with SelectLoop() as loop:
        output = PipedOutput(DirectFile(writer), None, "pipe")
        capture = Capture(loop, [output], lambda *_: None)
        capture.open()
        capture.datagrams_received(batch_of([(OUT, b"x" * 100_000)]))
        assert capture.blocked == 1
        output.end(Exit(0))
        assert capture.blocked == 1
        assert output.close() == 100_000 - 65_536
    os.close(reader)


def test_files_are_truncated_only_when_told_and_only_regular_ones(tmp_path):
    path = str(tmp_path / "file")
    (tmp_path / "file").write_text("old")
    fd = open_file(path, append=False)
    assert os.path.getsize(path) == 3
    truncate_file(fd, path)
    assert os.path.getsize(path) == 0
    os.close(fd)
    null = open_file("/dev/null", append=False)
    truncate_file(null, "/dev/null")
    os.close(null)


def spool():
    inner = RecordingOutput()
    output = SpoolOutput(inner)
    capture, errors = collect(output)
    return output, inner, capture, errors


def test_a_spool_is_silent_when_all_is_well():
    output, inner, capture, _ = spool()
    capture.datagrams_received(batch_of([(OUT, b"a"), (OUT, b"b")]))
    output.end(Exit(0))
    assert inner.writes == []
    assert output.silent
    assert output.close() == 0


@pytest.mark.parametrize("code", [1, -9])
def test_a_spool_replays_when_the_command_fails(code):
    output, inner, capture, _ = spool()
    for i in range(50):
        capture.datagrams_received(batch_of([(OUT, b"%d\n" % i * 1000)]))
    output.end(Exit(code))
    assert inner.data() == b"".join(b"%d\n" % i * 1000 for i in range(50))
    assert inner.exit == Exit(code)
    output.close()


def test_a_spool_replays_at_the_first_stderr_write_and_passes_through_from_then_on():
    output, inner, capture, _ = spool()
    capture.datagrams_received(batch_of([(OUT, b"a")]))
    assert inner.writes == []
    capture.datagrams_received(batch_of([(OUT, b"b"), (ERR, b"c"), (OUT, b"d")]))
    assert [(w.stream, w.data) for w in inner.writes] == [(OUT, b"a"), (OUT, b"b"), (ERR, b"c"), (OUT, b"d")]
    capture.datagrams_received(batch_of([(OUT, b"e")]))
    assert inner.data() == b"abcde"
    output.end(Exit(0))
    output.close()


def test_a_spool_waits_for_a_full_output_in_the_middle_of_its_replay():
    class Full(RecordingOutput):
        def write(self, batch):
            super().write(batch)
            self.flow.pause()

    inner = Full()
    output = SpoolOutput(inner)
    capture, _ = collect(output)
    capture.datagrams_received(batch_of([(OUT, b"x" * 200_000)]))
    capture.datagrams_received(batch_of([(ERR, b"e")]))
    assert capture.blocked == 1
    assert len(inner.data()) == 65_536
    output.end(Exit(0))
    rounds = 0
    while capture.blocked:
        inner.flow.resume()
        rounds += 1
    assert rounds == 5
    assert inner.data() == b"x" * 200_000 + b"e"
    assert inner.exit == Exit(0)
    output.close()


def test_a_spool_that_cannot_be_kept_is_reported_and_passed_on(monkeypatch):
    monkeypatch.setenv("TMPDIR", "/nonexistent")
    output, inner, capture, errors = spool()
    capture.datagrams_received(batch_of([(OUT, b"a")]))
    assert inner.data() == b"a"
    assert "spool" in errors[0].strerror
    output.end(Exit(0))
    output.close()


def run_standard(tmp_path, stdout, stderr, writes):
    """What StandardOutput makes of writes, with these two as its stdout and stderr."""
    code = "import sys; from dtee_async.output.standard import StandardOutput; from dtee_async.testing import batch_of\n"
    code += "StandardOutput().write(batch_of(eval(sys.argv[1])))"
    subprocess.run([sys.executable, "-c", code, repr([(int(s), d) for s, d in writes])], stdout=stdout, stderr=stderr, check=True)


def test_own_streams_that_are_two_files_get_their_halves_and_one_pipe_gets_the_order(tmp_path):
    writes = [(OUT, b"a"), (ERR, b"b"), (ERR, b"c"), (OUT, b"d")]
    with open(tmp_path / "o", "wb") as out, open(tmp_path / "e", "wb") as err:
        run_standard(tmp_path, out, err, writes)
    assert ((tmp_path / "o").read_bytes(), (tmp_path / "e").read_bytes()) == (b"ad", b"bc")
    reader, writer = os.pipe()
    run_standard(tmp_path, writer, writer, writes)
    os.close(writer)
    assert os.read(reader, 100) == b"abcd"
    os.close(reader)


def test_own_output_on_a_full_device_is_reported_by_its_name():
    null, full = os.open("/dev/null", os.O_WRONLY), os.open("/dev/full", os.O_WRONLY)
    output = StandardOutput(full, null)
    capture, errors = collect(output)
    capture.datagrams_received(batch_of([(OUT, b"a"), (ERR, b"b"), (OUT, b"c")]))
    assert [(error.filename, error.strerror) for error in errors] == [("stdout", "write: No space left on device")]
    os.close(null)
    os.close(full)


def test_many_files_at_once_are_all_written_though_the_pump_process_is_still_starting(tmp_path):
    count = 1000
    with SelectLoop() as loop:
        pumps = PumpProcess(loop)
        names = [str(tmp_path / str(i)) for i in range(count)]
        outputs = [PipedOutput(pumps.destination(open_file(name, append=False), name), None, name) for name in names]
        capture = Capture(loop, outputs, lambda *_: None)
        capture.open()
        capture.datagrams_received(batch_of([(OUT, b"x")]))
        for output in outputs:
            output.end(Exit(0))
        loop.run_until(lambda: not capture.blocked)
        assert [output.close() for output in outputs] == [0] * count
        pumps.close()
    assert all((tmp_path / str(i)).read_bytes() == b"x" for i in range(count))


def test_the_bytes_of_each_stream_are_counted_over_all_runs():
    counts = Counts()
    for _ in range(2):
        output = CountOutput(counts)
        capture, errors = collect(output)
        for writes in ([(OUT, b"a")], [(ERR, b"bb")], [(OUT, b"ccc"), (ERR, b"dddd"), (OUT, b""), (ERR, b"eeeee"), (OUT, b"f")]):
            capture.datagrams_received(batch_of(writes))
        output.end(Exit(0))
        assert output.close() == 0
        assert errors == []
    assert (counts.out_bytes, counts.err_bytes) == (2 * 5, 2 * 11)
