"""The web application: POST /texts has the words of a text counted by a worker, GET / shows what there was so far."""

import json
import os
import signal
import sys
import uuid
from collections.abc import Callable
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from store import Redis

OUT = Path("out")
QUEUE, ANSWER_SECONDS = os.environ["QUEUE"], os.environ["ANSWER_SECONDS"]
TOTALS = ("visits", "texts", "words")
PAGE = """<!doctype html><title>Words</title><link rel=stylesheet href=/{style}>
<h1>{words} words</h1><p>in {texts} texts; {visits} visits.</p>
"""


class Handler(BaseHTTPRequestHandler):
    """One request; its line in the log goes to stderr."""

    def do_GET(self) -> None:
        self._try(self._get)

    def do_POST(self) -> None:
        self._try(self._post)

    def _try(self, answer: Callable[[], None]) -> None:
        try:
            answer()
        except ConnectionError as error:
            self.send_error(HTTPStatus.SERVICE_UNAVAILABLE, f"no Redis: {error}")

    def _get(self) -> None:
        if self.path == "/health":
            with Redis() as redis:
                self._send("text/plain", f"{redis('PING')}\n")
        elif self.path == "/":
            self._send("text/html", PAGE.format(style=self._style(), **self._totals()))
        elif self.path == f"/{self._style()}":
            self._send("text/css", (OUT / self._style()).read_text())
        else:
            self.send_error(HTTPStatus.NOT_FOUND)

    def _post(self) -> None:
        if self.path != "/texts":
            return self.send_error(HTTPStatus.NOT_FOUND)
        text = self.rfile.read(int(self.headers["Content-Length"] or 0)).decode(errors="replace")
        number = uuid.uuid4().hex
        with Redis() as redis:
            redis("RPUSH", QUEUE, json.dumps({"number": number, "text": text}))
            answer = redis("BLPOP", f"answer:{number}", ANSWER_SECONDS)
        if answer is None:
            return self.send_error(HTTPStatus.GATEWAY_TIMEOUT)
        return self._send("application/json", f"{answer[1]}\n")

    def log_request(self, code: int | str = "-", size: int | str = "-") -> None:
        if self.path != "/health":  # the probes ask for it all the time
            super().log_request(code, size)

    def _totals(self) -> dict[str, str]:
        with Redis() as redis:
            redis("INCR", "total:visits")
            return dict(zip(TOTALS, redis("MGET", *(f"total:{name}" for name in TOTALS)), strict=True))

    def _style(self) -> str:
        return (OUT / "style.name").read_text()

    def _send(self, kind: str, text: str) -> None:
        body = text.encode()
        self.send_response(HTTPStatus.OK)
        self.send_header("Content-Type", f"{kind}; charset=utf-8")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


signal.signal(signal.SIGINT, lambda *_: sys.exit())
with ThreadingHTTPServer(("127.0.0.1", int(os.environ["PORT"])), Handler) as server:
    server.daemon_threads = True
    print(f"listening on http://{server.server_name}:{server.server_port}")
    server.serve_forever()
