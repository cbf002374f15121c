"""An HTTP/1.1 server on loopback that answers from a function, and files in ranges."""

from __future__ import annotations

import http.server
import os
import re
import socket
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import SplitResult, parse_qs, urlsplit


@dataclass
class Request:
    """What a client asked: the method, the address in parts, its headers in lower case, and what it sent."""

    method: str
    target: SplitResult
    headers: dict[str, str]
    body: bytes = b""

    @property
    def query(self) -> dict[str, str]:
        """The parameters, the last of each name."""
        return {name: values[-1] for name, values in parse_qs(self.target.query, keep_blank_values=True).items()}


@dataclass
class Reply:
    """An answer; its length is added."""

    status: int
    body: bytes = b""
    headers: dict[str, str] = field(default_factory=dict)


class _Threads(http.server.ThreadingHTTPServer):
    request_queue_size = 1024
    daemon_threads = True

    def handle_error(self, *_: object) -> None:
        """A client that went away is no news."""


class Server:
    """Answers with `answer(request)`; keeps what was asked in `requests`."""

    def __init__(self, answer: Callable[[Request], Reply], host: str = "127.0.0.1") -> None:
        self.requests: list[Request] = []
        self.answer = answer
        owner = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            wbufsize = -1

            def setup(self) -> None:
                super().setup()
                self.connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

            def log_message(self, *_: object) -> None:
                """Tests read `requests` instead."""

            def do_GET(self) -> None:
                headers = {name.lower(): value for name, value in self.headers.items()}
                length = int(headers.get("content-length", "0"))
                body = self.rfile.read(length)
                if len(body) < length:  # whoever sent it is gone
                    return
                request = Request(self.command, urlsplit(self.path), headers, body)
                owner.requests.append(request)
                reply = answer(request)
                self.send_response_only(reply.status)
                for name, value in reply.headers.items():
                    self.send_header(name, value)
                if "Content-Length" not in reply.headers:
                    self.send_header("Content-Length", str(len(reply.body)))
                self.end_headers()
                if self.command != "HEAD":
                    self.wfile.write(reply.body)

            do_HEAD = do_POST = do_PUT = do_GET  # noqa: N815  # the names that http.server looks for

        self._server = _Threads((host, 0), Handler)
        self.host, self.port = host, self._server.server_port
        self.url = f"http://{host}:{self.port}"
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()

    def close(self) -> None:
        """Stop listening."""
        self._server.shutdown()
        self._server.server_close()

    def __enter__(self) -> Server:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def etag_of(path: Path) -> str:
    """A strong ETag that changes with the file."""
    status = path.stat()
    return f'"{status.st_mtime_ns:x}-{status.st_size:x}"'


def ranged(path: Path, request: Request, etag: str | None = None) -> Reply:
    """A file as a server with ranges and preconditions gives it."""
    if not path.is_file():
        return Reply(404, b"<Error><Code>NoSuchKey</Code></Error>")
    etag, size = etag or etag_of(path), path.stat().st_size
    headers = {"ETag": etag, "Accept-Ranges": "bytes", "Last-Modified": "Tue, 24 Nov 2026 06:00:00 GMT"}
    if request.headers.get("if-match", etag) not in (etag, "*"):
        return Reply(412, headers=headers)
    if request.headers.get("if-none-match") == etag:
        return Reply(304, headers=headers)
    begin, end, status = 0, size, 200
    if found := re.fullmatch(r"bytes=(\d+)-(\d+)", request.headers.get("range", "")):
        begin, end, status = int(found[1]), min(int(found[2]) + 1, size), 206
        if begin >= size:
            return Reply(416, headers={"Content-Range": f"bytes */{size}"})
        headers["Content-Range"] = f"bytes {begin}-{end - 1}/{size}"
    if request.method == "HEAD":
        return Reply(status, headers={**headers, "Content-Length": str(end - begin)})
    descriptor = os.open(path, os.O_RDONLY)
    try:
        return Reply(status, os.pread(descriptor, end - begin, begin), headers)
    finally:
        os.close(descriptor)


def folder_server(folder: Path) -> Server:
    """Serves a folder's files in ranges, and lists nothing."""
    return Server(lambda request: ranged(folder / request.target.path.lstrip("/"), request))
