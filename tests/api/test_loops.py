"""Callbacks on the loop of a host application, where Ctrl-C is a KeyboardInterrupt that can come anywhere."""

import asyncio
import gc
import hashlib
import signal
import subprocess
import sys
import threading
import weakref

import pytest
import trio
import uvloop

import dtee_async
from dtee_async.api.loops import HostLoop

uvloop.new_event_loop().close()  # libuv has a pipe of its own, which comes with the first loop and stays

INTERRUPTED = """
import asyncio, hashlib, signal, sys, uvloop, dtee_async

class Interrupting:
    name, wants_stamps, count = "interrupting", False, 0
    def open(self, flow): pass
    def write(self, batch):
        self.count += 1
        if self.count % 7 == 0 and self.count < 100:
            signal.raise_signal(signal.SIGINT)
    def end(self, exit): pass
    def close(self): return 0

loop = uvloop.new_event_loop() if sys.argv[1] == "uvloop" else asyncio.SelectorEventLoop()
task = loop.create_task(dtee_async.run(sys.argv[2:], outputs=[Interrupting()]))
interrupts = 0
while True:
    try:
        result = loop.run_until_complete(task)
        break
    except KeyboardInterrupt:
        interrupts += 1
assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
loop.close()
print(interrupts, hashlib.sha256(result.combined).hexdigest())
"""


def test_a_keyboard_interrupt_in_a_callback_loses_nothing(loop_name, programs, random_writes):
    both, _, _ = random_writes(3, 5000, 500)
    words = [sys.executable, "-c", INTERRUPTED, loop_name, programs / "random_writer", "3", "5000", "500"]
    done = subprocess.run(words, stdout=subprocess.PIPE, text=True)
    interrupts, digest = done.stdout.split()
    assert (done.returncode, digest) == (0, hashlib.sha256(both).hexdigest())
    assert int(interrupts) > 3


@pytest.fixture
def loop(loop_name):
    loop = uvloop.new_event_loop() if loop_name == "uvloop" else asyncio.SelectorEventLoop()
    yield loop
    loop.close()


def test_the_interrupt_comes_after_the_callback_and_only_once(loop):
    seen = []

    def callback(word):
        signal.raise_signal(signal.SIGINT)
        signal.raise_signal(signal.SIGINT)
        seen.append(word)

    HostLoop(loop).call_soon_threadsafe(callback, "done")
    with pytest.raises(KeyboardInterrupt):
        loop.run_forever()
    assert seen == ["done"]
    loop.call_soon(loop.stop)
    loop.run_forever()
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_a_handler_of_the_application_stays_and_is_called_at_once(loop):
    seen = []
    before = signal.signal(signal.SIGINT, lambda *_: seen.append("handler"))
    try:

        def callback():
            signal.raise_signal(signal.SIGINT)
            seen.append("callback")
            loop.stop()

        HostLoop(loop).call_later(0, callback)
        loop.run_forever()
    finally:
        signal.signal(signal.SIGINT, before)
    assert seen == ["handler", "callback"]


def test_in_another_thread_no_handler_is_touched(loop):
    seen = []
    host = HostLoop(loop)

    def work():
        host.call_soon_threadsafe(lambda: (seen.append(signal.getsignal(signal.SIGINT)), loop.stop()))
        loop.run_forever()

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert seen == [signal.default_int_handler]


def test_an_error_of_a_callback_is_the_callbacks(loop):
    caught = []
    loop.set_exception_handler(lambda _, context: (caught.append(context["exception"]), loop.stop()))
    HostLoop(loop).call_soon_threadsafe(lambda: 1 / 0)
    loop.run_forever()
    assert isinstance(caught[0], ZeroDivisionError)


async def supervised():
    async with dtee_async.Supervisor():
        pass


async def opened():
    async with dtee_async.open_job("true"):
        pass


async def piped():
    await dtee_async.run_pipeline("true", "true")


async def was_run():
    await dtee_async.run("true")


@pytest.mark.parametrize("use", [was_run, opened, piped, supervised])
def test_trio_is_told_that_this_needs_asyncio(use):
    with pytest.raises(dtee_async.LoopError, match="trio's is none"):
        trio.run(use)


@pytest.mark.parametrize("ends", [False, True])
def test_loops_and_what_their_captures_share_are_freed(loop_name, ends):
    factory = uvloop.new_event_loop if loop_name == "uvloop" else asyncio.SelectorEventLoop
    loops = []
    for _ in range(3):
        loop = factory()
        loop.run_until_complete(dtee_async.run("true"))
        if ends:
            loop.run_until_complete(loop.shutdown_asyncgens())
        loop.close()
        loops.append(weakref.ref(loop))
        del loop
        gc.collect()
    assert [loop() for loop in loops] == [None] * 3


def test_the_end_of_the_generators_while_a_command_runs_takes_nothing_from_it(loop_name):
    async def main():
        running = asyncio.create_task(
            dtee_async.run("for i in 1 2 3; do echo $i; sleep 0.1; done", capture="turnstile", die_with_supervisor=True)
        )
        await asyncio.sleep(0.1)
        await asyncio.get_running_loop().shutdown_asyncgens()
        return await running

    loop = uvloop.new_event_loop() if loop_name == "uvloop" else asyncio.SelectorEventLoop()
    assert loop.run_until_complete(main()).stdout == b"1\n2\n3\n"
    loop.close()
