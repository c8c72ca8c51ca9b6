"""Owns the connection to Redis: its protocol, RESP, in a few lines."""

import os
import socket
from types import TracebackType
from typing import Any, Self

HOST, PORT = "127.0.0.1", int(os.environ["REDIS_PORT"])


class Redis:
    """A connection. Call it with the words of a Redis command; the answer is a string, a number, a list or None."""

    def __init__(self) -> None:
        self._stream = socket.create_connection((HOST, PORT)).makefile("rwb")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._stream.close()

    def __call__(self, *words: object) -> Any:
        encoded = [str(word).encode() for word in words]
        self._stream.write(b"*%d\r\n" % len(encoded) + b"".join(b"$%d\r\n%s\r\n" % (len(word), word) for word in encoded))
        self._stream.flush()
        return self._answer()

    def all(self, *commands: tuple[object, ...]) -> Any:
        """All of them, or none."""
        self("MULTI")
        for command in commands:
            self(*command)
        return self("EXEC")

    def _answer(self) -> Any:
        line = self._stream.readline()
        kind, rest = line[:1], line[1:].rstrip()
        match kind:
            case b"+":
                return rest.decode()
            case b":":
                return int(rest)
            case b"$":
                return self._stream.read(int(rest) + 2)[:-2].decode() if int(rest) >= 0 else None
            case b"*":
                return [self._answer() for _ in range(int(rest))] if int(rest) >= 0 else None
            case b"-":
                raise RuntimeError(rest.decode())
            case _:
                raise ConnectionError("Redis has closed the connection")
