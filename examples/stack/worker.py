"""A worker: takes texts from the queue and counts their words.

A text that it has taken is in a list of its own until it is counted, both in one transaction: killed in the middle, it
takes it up again, and no text is counted twice.
"""

import json
import os
import signal
import socket
import sys

from store import Redis

NAME, QUEUE = os.environ["JOB_NAME"], os.environ["QUEUE"]
MINE = f"{QUEUE}:{NAME}"
WAIT_SECONDS = 1


def notify(state: str) -> None:
    """Tell the supervisor: sd_notify(3)."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
        address = os.environ["NOTIFY_SOCKET"]
        sender.connect("\0" + address[1:] if address.startswith("@") else address)
        sender.send(state.encode())


def count(redis: Redis, item: str) -> None:
    """Count the words of one text, and say so to whoever has sent it."""
    task = json.loads(item)
    words = len(task["text"].split())
    answer = json.dumps({"words": words, "by": NAME})
    redis.all(
        ("INCR", "total:texts"),
        ("INCRBY", "total:words", words),
        ("RPUSH", f"answer:{task['number']}", answer),
        ("EXPIRE", f"answer:{task['number']}", 60),
        ("LREM", MINE, 1, item),
    )
    print(f"counted {words} words")


def work() -> None:
    """First what was left, then what comes, for ever."""
    with Redis() as redis:
        for left in redis("LRANGE", MINE, 0, -1):
            print("taking up again a text that was not counted to its end", file=sys.stderr)
            count(redis, left)
        notify("READY=1")
        while True:
            if (taken := redis("BLMOVE", QUEUE, MINE, "LEFT", "RIGHT", WAIT_SECONDS)) is not None:
                count(redis, taken)
            notify("WATCHDOG=1")


signal.signal(signal.SIGTERM, lambda *_: sys.exit())
try:
    work()
except ConnectionError as error:
    sys.exit(f"no Redis: {error}")
