"""Consumers: each has everything since it began, the slowest sets the pace, and who is gone holds nobody back."""

import pytest

from dtee_async.core.batch import Batch
from dtee_async.core.exit import Exit
from dtee_async.core.write import Stream
from dtee_async.output.consumers import HELD_BYTES, LAST_BYTES, Consumers
from dtee_async.testing import batch_of

HALF = b"h" * (HELD_BYTES // 2)


class Flow:
    """What the engine would see: whether it is to read, and each change of that."""

    def __init__(self):
        self.paused = False
        self.changes = 0

    def pause(self):
        self.changes += not self.paused
        self.paused = True

    def resume(self):
        self.changes += self.paused
        self.paused = False


class Scene:
    def __init__(self):
        self.consumers, self.flow, self.told = Consumers(), Flow(), []
        self.consumers.open(self.flow)

    def attach(self, name=""):
        return self.consumers.attach(lambda: self.told.append(name))

    def write(self, data):
        self.consumers.write(batch_of([(Stream.STDOUT, data)]))


@pytest.fixture
def scene():
    return Scene()


def taken(consumer):
    data = []
    while (batch := consumer.take()) is not None:
        data += [bytes(write.data) for write in batch]
    return data


@pytest.mark.parametrize("begin", [lambda scene: scene.attach(), lambda scene: scene.consumers.begin()], ids=["consumer", "begin"])
def test_nothing_is_read_before_somebody_wants_it(scene, begin):
    assert scene.flow.paused
    begin(scene)
    assert not scene.flow.paused


def test_each_has_what_came_since_it_began(scene):
    early = scene.attach("early")
    scene.write(b"1")
    late = scene.attach("late")
    scene.write(b"2")
    assert (taken(early), taken(late)) == ([b"1", b"2"], [b"2"])
    assert scene.told == ["early", "early", "late"]
    assert scene.consumers.discarded_bytes == 0


def test_what_it_has_is_its_own(scene):
    consumer, memory = scene.attach(), bytearray(b"before")
    scene.consumers.write(Batch([memoryview(memory)], [6], bytes([1])))
    memory[:] = b"after!"
    assert taken(consumer) == [b"before"]


def test_the_slowest_sets_the_pace(scene):
    slow, fast = scene.attach(), scene.attach()
    scene.write(HALF)
    taken(fast)
    assert not scene.flow.paused
    scene.write(HALF)
    taken(fast)
    assert scene.flow.paused
    slow.take()
    assert not scene.flow.paused


def test_who_is_detached_holds_nobody_back_and_is_told(scene):
    consumer = scene.attach("one")
    scene.write(HALF + HALF)
    assert scene.flow.paused
    scene.told.clear()
    consumer.detach()
    consumer.detach()
    assert not scene.flow.paused
    assert scene.told[0] == "one"
    assert consumer.is_at_end
    assert consumer.take() is None


def test_what_nobody_takes_is_counted(scene):
    scene.attach().detach()
    scene.write(b"12345")
    assert scene.consumers.discarded_bytes == 5
    assert not scene.flow.paused


def test_held_back_until_somebody_says_otherwise(scene):
    scene.consumers.hold_back(held=True)
    consumer = scene.attach()
    assert scene.flow.paused
    consumer.detach()
    scene.consumers.begin()
    assert scene.flow.paused
    scene.consumers.hold_back(held=False)
    assert not scene.flow.paused


def test_after_the_end_what_is_held_can_be_taken(scene):
    consumer = scene.attach("one")
    scene.write(HALF + HALF)
    scene.told.clear()
    scene.consumers.end(Exit(0))
    assert not scene.flow.paused, "an output that stays paused is not done"
    assert scene.told == ["one"]
    assert not consumer.is_at_end
    assert taken(consumer) == [HALF + HALF]
    assert consumer.is_at_end
    assert scene.consumers.close() == 0


def test_a_job_that_is_being_ended_is_held_back_by_nobody(scene):
    left, busy = scene.attach("left"), scene.attach()
    scene.consumers.hold_back(held=True)
    scene.write(HALF + HALF)
    scene.consumers.let_go()
    scene.consumers.hold_back(held=True)
    assert not scene.flow.paused
    for _ in range(LAST_BYTES // HELD_BYTES):
        taken(busy)
        scene.write(HALF + HALF)
    assert not scene.flow.paused
    assert left.missed_bytes == HELD_BYTES
    assert not left.is_at_end
    assert sum(map(len, taken(left))) == LAST_BYTES, "a beginning, without a gap, and bounded"
    assert (busy.missed_bytes, taken(busy)) == (0, [HALF + HALF])


def test_a_job_that_is_ended_before_anybody_came_is_read():
    scene = Scene()
    scene.consumers.let_go()
    assert not scene.flow.paused
