"""``python -m trainer report PATH … --serve``: the page on this machine, which loads itself again when runs change.

Only this machine can open it (it listens on 127.0.0.1, and refuses requests for other host names), and it has only the
page: nothing is written, and no file is served.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from trainer.cli.display import tell
from trainer.rundir.errors import Refused
from trainer.rundir.records import RunRecord

HOST = "127.0.0.1"


def stamp(records: list[RunRecord]) -> str:
    """A text that changes when a run begins, ends, or finishes an epoch."""
    facts = [(record.name, record.status, record.summary.get("epochs"), record.error) for record in records]
    return hashlib.sha256(repr(facts).encode(errors="replace")).hexdigest()


def serve(port: int, page: Callable[[], bytes], mark: Callable[[], str]) -> None:
    """Serves the page until Ctrl-C.

    Args:
        port: 0 for a free one.
        page: makes the page as it is now.
        mark: the present stamp.

    Raises:
        Refused: the port is taken or not allowed.
    """
    answers: dict[str, tuple[str, Callable[[], bytes]]] = {
        "/": ("text/html; charset=utf-8", page),
        "/stamp": ("text/plain; charset=utf-8", lambda: mark().encode()),
    }

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            if self.headers.get("Host") not in hosts:  # a page elsewhere that resolves its name to this machine
                self.send_error(403)
            elif self.path not in answers:
                self.send_error(404)
            else:
                kind, make = answers[self.path]
                self.answer(kind, make)

        def answer(self, kind: str, make: Callable[[], bytes]) -> None:
            try:
                code, content = 200, make()
            except Refused as error:  # the runs are gone, say; the page asks again
                code, kind, content = 503, "text/plain; charset=utf-8", f"{error}\n".encode(errors="replace")
            self.send_response(code)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(content)))
            self.send_header("Cache-Control", "no-store")
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *_: object) -> None:
            """Says nothing of each request."""

    try:
        server = ThreadingHTTPServer((HOST, port), Handler)
    except (OSError, OverflowError) as error:
        reason = getattr(error, "strerror", None) or error
        raise Refused(f"--serve={port}: {reason}; --serve alone takes a free port") from error
    hosts = [f"{name}:{server.server_port}" for name in (HOST, "localhost")]
    with server:
        tell(f"serving  http://{hosts[0]}/ until Ctrl-C; the page follows the runs")
        try:
            server.serve_forever()
        except KeyboardInterrupt:
            tell("stopped")
