"""A small CI runner: a queue of builds, and a page that shows what each of them writes while it writes it.

ci_runner.py [PORT]     serve http://127.0.0.1:PORT (8000) until Ctrl-C

A build is a command for the shell, in the folder that the runner was started in. The end of what it wrote is kept, and each page
reads from there at its own pace: one that is slow misses what is not kept any more; no page, slow or gone, holds a build back.
"""

from __future__ import annotations

import asyncio
import codecs
import json
import sys
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import suppress
from itertools import count, islice
from pathlib import Path

from aiohttp import web

import dtee_async

AT_ONCE, HISTORY, GRACE_S, STILL_THERE_S, PACE_S = 2, 20, 5, 15, 0.05
KEPT_CHARACTERS, OF_A_WRITE = 128 * 1024, 100  # to keep a short write costs more than its text


class Build:
    def __init__(self, number: int, command: str) -> None:
        self.number, self.command, self.state = number, command, "queued"
        self.job: dtee_async.RunningJob | None = None
        self.written = self._kept_characters = 0
        self._writes: deque[tuple[str, str]] = deque()
        self._decoders = {stream: codecs.getincrementaldecoder("utf-8")("replace") for stream in dtee_async.Stream}

    def add(self, write: dtee_async.Write) -> None:
        text = self._decoders[write.stream].decode(bytes(write.data))[-KEPT_CHARACTERS:]
        self._writes.append((write.stream.name, text))
        self.written += 1
        self._kept_characters += len(text) + OF_A_WRITE
        while self._kept_characters > KEPT_CHARACTERS + OF_A_WRITE:
            self._kept_characters -= len(self._writes.popleft()[1]) + OF_A_WRITE

    def since(self, seen: int) -> dict[str, object]:
        """What to tell a page that has seen so many of its writes."""
        fields = {name: getattr(self, name) for name in ("number", "command", "state", "written")}
        kept = len(self._writes)
        return {**fields, "kept": kept, "new": list(islice(self._writes, max(0, kept - self.written + seen), None))}


class Runner:
    def __init__(self) -> None:
        self._builds: dict[int, Build] = {}
        self._queue: asyncio.Queue[Build] = asyncio.Queue()
        self._ended: deque[int] = deque()
        self._numbers = count(1)
        self._news = asyncio.Event()

    def _tell(self) -> None:
        self._news.set()
        self._news = asyncio.Event()

    async def _work(self) -> None:
        while True:
            build = await self._queue.get()
            if build.state == "queued":
                build.state = await self._run(build)
            self._ended.append(build.number)
            if len(self._ended) > HISTORY:
                del self._builds[self._ended.popleft()]
            self._tell()

    async def _run(self, build: Build) -> str:
        try:
            async with dtee_async.open_job(build.command, grace_s=GRACE_S) as build.job:
                build.state = "running"
                self._tell()
                async for write in build.job:
                    build.add(write)
                    self._tell()
                result = await build.job.wait()
        except dtee_async.DteeError as error:
            return f"failed: {error}"
        word = "cancelled" if build.state == "cancelling" else "failed" if result.returncode else "passed"
        return f"{word}: status {result.exit.status}, {result.duration_s:.2f} s"

    async def work(self, application: web.Application) -> AsyncIterator[None]:
        """Work until the server stops; the builds that run then are ended, with all their processes."""
        workers = asyncio.gather(*(self._work() for _ in range(AT_ONCE)))
        yield
        workers.cancel()
        await asyncio.gather(workers, return_exceptions=True)

    async def page(self, request: web.Request) -> web.FileResponse:
        return web.FileResponse(Path(__file__).with_name("page.html"))

    async def submit(self, request: web.Request) -> web.Response:
        build = Build(next(self._numbers), await request.text())
        self._builds[build.number] = build
        self._queue.put_nowait(build)
        self._tell()
        return web.Response(status=201)

    async def cancel(self, request: web.Request) -> web.Response:
        build = self._builds.get(int(request.match_info["number"]))
        if build and build.state in {"queued", "running"}:
            build.state = "cancelling" if build.job else "cancelled: not started"
            self._tell()
            if build.job:
                await build.job.terminate(GRACE_S)  # what it writes meanwhile is shown too
        return web.Response(status=204)

    async def events(self, request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream", "Cache-Control": "no-store"})
        await response.prepare(request)
        seen: dict[int, tuple[str, int]] = {}
        with suppress(ConnectionError):  # until the page has gone
            while True:
                news = self._news
                await response.write(b": still there?\n\n")
                for number in seen.keys() - self._builds.keys():
                    del seen[number]
                    await response.write(b'data: {"gone": %d}\n\n' % number)
                for number, build in list(self._builds.items()):
                    before, seen[number] = seen.get(number, ("", 0)), (build.state, build.written)
                    if before != seen[number]:
                        await response.write(f"data: {json.dumps(build.since(before[1]))}\n\n".encode())
                with suppress(TimeoutError):
                    await asyncio.wait_for(news.wait(), STILL_THERE_S)
                await asyncio.sleep(PACE_S)  # more may come, and is told at once
        return response


@web.middleware
async def our_page_only(request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]) -> web.StreamResponse:
    """A build is any command: no other site may submit one by way of the browser, whatever name it has given us."""
    host = "127.0.0.1:{1}".format(*request.get_extra_info("sockname"))
    if request.host != host or request.headers.get("Origin", f"http://{host}") != f"http://{host}":
        raise web.HTTPForbidden(text=f"expected a request from http://{host}/\n")
    return await handler(request)


if __name__ == "__main__":
    runner, application = Runner(), web.Application(middlewares=[our_page_only])
    application.cleanup_ctx.append(runner.work)
    application.add_routes([web.get("/", runner.page), web.get("/events", runner.events)])
    application.add_routes([web.post("/builds", runner.submit), web.post("/builds/{number:[0-9]+}/cancel", runner.cancel)])
    web.run_app(application, host="127.0.0.1", port=int(sys.argv[1]) if len(sys.argv) > 1 else 8000, shutdown_timeout=0.1)
