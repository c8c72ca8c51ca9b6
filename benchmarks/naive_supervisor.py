"""Owns the obvious way to do it: asyncio's own datagram endpoint on the same three sockets. `naive_supervisor.py LOOP FILE CMD...`"""

from __future__ import annotations

import asyncio
import os
import select
import socket
import subprocess
import sys
import tempfile


class Naive(asyncio.DatagramProtocol):
    """Each write to our own stdout or stderr, and to the file."""

    def __init__(self, file: int) -> None:
        self._file = file

    def datagram_received(self, data: bytes, addr: object) -> None:
        os.write(2 if str(addr).endswith("2") else 1, data)
        os.write(self._file, data)


def _sockets() -> tuple[socket.socket, list[socket.socket]]:
    with tempfile.TemporaryDirectory() as folder:
        receiver, *senders = (socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) for _ in range(3))
        receiver.bind(f"{folder}/0")
        receiver.setblocking(False)
        for letter, sender in zip("12", senders, strict=True):
            sender.bind(f"{folder}/{letter}")
            sender.connect(f"{folder}/0")
    return receiver, senders


async def _supervise(path: str, command: list[str]) -> int:
    loop = asyncio.get_running_loop()
    receiver, senders = _sockets()
    file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o666)
    transport, _ = await loop.create_datagram_endpoint(lambda: Naive(file), sock=receiver)
    process = subprocess.Popen(command, stdout=senders[0], stderr=senders[1])
    exited = loop.create_future()
    pidfd = os.pidfd_open(process.pid)
    loop.add_reader(pidfd, lambda: exited.done() or exited.set_result(None))
    await exited
    loop.remove_reader(pidfd)
    while select.select([receiver], [], [], 0)[0]:  # what the child left in the queue
        await asyncio.sleep(0)
    transport.close()
    return process.wait()


def main() -> int:
    """Run the command on the loop."""
    kind, path, *command = sys.argv[1:]
    factory: type[asyncio.AbstractEventLoop] = asyncio.SelectorEventLoop
    if kind == "uvloop":
        import uvloop

        factory = uvloop.Loop
    with asyncio.Runner(loop_factory=factory) as runner:
        return runner.run(_supervise(path, command))


if __name__ == "__main__":
    sys.exit(main())
