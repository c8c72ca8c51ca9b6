"""tee() and splice() as their manual pages have them: what is returned, and every errno."""

import errno
import os
import signal
import threading
from contextlib import contextmanager

import pytest

from dtee_async.core import platforms
from dtee_async.transport import zerocopy
from dtee_async.zerocopy import SpliceFlag, splice, tee

NONBLOCK = SpliceFlag.NONBLOCK
SOON_S = 0.1


@contextmanager
def pipes(count):
    fds = [os.pipe() for _ in range(count)]
    yield fds
    for fd in sum(fds, ()):
        try:
            os.close(fd)
        except OSError as error:  # the test closed it
            assert error.errno == errno.EBADF


def fails(number, call, *arguments, **options):
    with pytest.raises(OSError) as caught:
        call(*arguments, **options)
    assert caught.value.errno == number
    return caught.value


def test_tee_duplicates_and_does_not_consume():
    with pipes(2) as [(r, w), (r2, w2)]:
        os.write(w, b"hello")
        assert tee(r, w2, 100) == 5
        assert tee(r, w2, 2) == 2
        assert os.read(r, 100) == b"hello"
        assert os.read(r2, 100) == b"hellohe"


def test_splice_consumes():
    with pipes(2) as [(r, w), (r2, w2)]:
        os.write(w, b"hello")
        assert splice(r, w2, 2) == 2
        assert (os.read(r, 100), os.read(r2, 100)) == (b"llo", b"he")


@pytest.mark.parametrize("call", [tee, splice])
def test_no_writer_left_is_0_and_no_data_is_eagain(call):
    with pipes(2) as [(r, w), (_, w2)]:
        assert isinstance(fails(errno.EAGAIN, call, r, w2, 9, flags=NONBLOCK), BlockingIOError)
        assert call(r, w2, 0) == 0
        os.close(w)
        assert call(r, w2, 9) == 0
        assert call(r, w2, 9, flags=NONBLOCK) == 0


@pytest.mark.parametrize("call", [tee, splice])
def test_a_full_sink_is_eagain_and_one_without_readers_epipe(call):
    with pipes(2) as [(r, w), (r2, w2)]:
        os.write(w, b"x")
        os.set_blocking(w2, False)
        with pytest.raises(BlockingIOError):
            while True:
                os.write(w2, bytes(4096))
        os.set_blocking(w2, True)
        fails(errno.EAGAIN, call, r, w2, 1, flags=NONBLOCK)
        os.close(r2)
        assert isinstance(fails(errno.EPIPE, call, r, w2, 1), BrokenPipeError)


def test_einval(tmp_path):
    with pipes(1) as [(r, w)], open(tmp_path / "a", "ab") as appending, open(tmp_path / "b", "w+b") as file:
        os.write(w, b"x")
        fails(errno.EINVAL, tee, r, w, 1)
        fails(errno.EINVAL, splice, r, w, 1)
        fails(errno.EINVAL, tee, r, file, 1)
        fails(errno.EINVAL, tee, file, w, 1)
        fails(errno.EINVAL, splice, file, appending, 1)
        fails(errno.EINVAL, splice, r, appending, 1)
        fails(errno.EINVAL, tee, r, w, 1, 1 << 20)
        assert os.read(r, 9) == b"x"


def test_offsets(tmp_path):
    (tmp_path / "a").write_bytes(b"0123456789")
    with pipes(2) as [(r, w), (_, w2)], open(tmp_path / "a", "r+b", buffering=0) as file:
        assert splice(file, w, 3, offset_in=4) == 3
        assert splice(r, file, 3, offset_out=0) == 3
        assert file.tell() == 0
        assert file.read() == b"4563456789"
        os.write(w, b"x")
        fails(errno.ESPIPE, splice, r, w2, 1, offset_in=0)


@pytest.mark.parametrize("call", [tee, splice])
def test_wrong_arguments(call):
    with pipes(2) as [(r, w), (r2, w2)]:
        os.write(w, b"x")
        fails(errno.EBADF, call, -1, w2, 1)
        fails(errno.EBADF, call, r, r2, 1)
        fails(errno.EBADF, call, w, w2, 1)
        with pytest.raises(ValueError, match="must not be negative: -1"):
            call(r, w2, -1)
        with pytest.raises(OverflowError, match="length"):
            call(r, w2, 1 << 64)
        with pytest.raises(OverflowError, match="greater than any fd"):
            call((1 << 32) + r, w2, 1)
        with pytest.raises(ValueError, match="SpliceFlag"):
            call(r, w2, 1, flags=-1)
        for nothing in (None, "0", 1.0):
            with pytest.raises(TypeError, match="expected an fd"):
                call(nothing, w2, 1)


def test_another_error_comes_as_it_is(monkeypatch):
    monkeypatch.setattr(zerocopy, "_tee", lambda: (lambda *_: -1, lambda: errno.ENOMEM))
    fails(errno.ENOMEM, tee, 0, 1, 1)


def test_a_system_without_it(monkeypatch):
    monkeypatch.setattr(platforms, "switched_off", frozenset({"splice"}))
    zerocopy._tee.cache_clear()
    fails(errno.ENOSYS, tee, 0, 1, 1)


def test_the_gil_is_released():
    with pipes(2) as [(r, w), (_, w2)]:
        thread = threading.Thread(target=os.write, args=(w, b"x"))
        thread.start()
        assert tee(r, w2, 9) == 1
        thread.join()


def test_a_signal_does_not_end_it_and_its_handler_runs():
    with pipes(2) as [(r, w), (_, w2)]:
        before = signal.signal(signal.SIGALRM, lambda *_: os.write(w, b"late"))
        try:
            signal.setitimer(signal.ITIMER_REAL, SOON_S)
            assert tee(r, w2, 9) == 4
        finally:
            signal.signal(signal.SIGALRM, before)


def test_the_handler_of_a_signal_may_raise():
    def handler(*_):
        raise KeyboardInterrupt

    with pipes(2) as [(r, _), (_, w2)]:
        before = signal.signal(signal.SIGALRM, handler)
        try:
            signal.setitimer(signal.ITIMER_REAL, SOON_S)
            with pytest.raises(KeyboardInterrupt):
                tee(r, w2, 9)
        finally:
            signal.signal(signal.SIGALRM, before)
