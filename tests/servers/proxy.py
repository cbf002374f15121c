"""A proxy that injects faults between a client and any HTTP server, real ones included.

It passes heads and bodies on as they are; a fault applies to the requests that `when` picks, `times` times.
"""

from __future__ import annotations

import re
import socket
import struct
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from urllib.parse import unquote

Head = tuple[str, dict[str, str]]


@dataclass
class Fault:
    """What to do: `kind` is latency, reset, truncate, status, ignore_range, etag, wrong_length or redirect."""

    kind: str
    value: str = ""
    times: int = 1_000_000
    when: str = r"\.safetensors|comp=list|list-type=2"
    body: bytes = b""


class Proxy:
    """Listens on loopback for one upstream server; `faults` apply in turn, each as often as it says."""

    def __init__(self, host: str, port: int, faults: list[Fault] | None = None) -> None:
        self._upstream = (host, port)
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=1024)
        self.port: int = self._listener.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"
        self.faults: list[Fault] = [] if faults is None else faults
        self.targets: list[str] = []
        self._lock = threading.Lock()
        threading.Thread(target=self._serve, daemon=True).start()

    def close(self) -> None:
        """Stop listening."""
        self._listener.close()

    def _serve(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._connection, args=(client,), daemon=True).start()

    def _fault(self, target: str) -> Fault | None:
        with self._lock:
            self.targets.append(target)
            for fault in self.faults:
                if fault.times > 0 and re.search(fault.when, unquote(target)):
                    fault.times -= 1
                    return fault
        return None

    def _connection(self, client: socket.socket) -> None:
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        upstream = None
        try:
            with client:
                incoming = client.makefile("rb")
                while (head := _head(incoming)) is not None:
                    if upstream is None:
                        upstream = socket.create_connection(self._upstream)
                        upstream.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                        outgoing = upstream.makefile("rb")
                    if not self._exchange(client, upstream, outgoing, head):
                        break
        except OSError:
            pass
        finally:
            if upstream is not None:
                upstream.close()

    def _exchange(self, client: socket.socket, upstream: socket.socket, outgoing: object, head: Head) -> bool:
        line, headers = head
        method, target, _ = line.split(" ", 2)
        fault = self._fault(target)
        kind = "" if fault is None else fault.kind
        if fault is not None and kind == "latency":
            time.sleep(float(fault.value))
        if kind == "reset":
            client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            client.close()
            return False
        if fault is not None and kind in ("status", "redirect"):
            extra = ""
            status, _, after = fault.value.partition(" ")
            if kind == "redirect":
                status, extra = "302", f"Location: {fault.value}\r\n"
            elif after:
                extra = f"Retry-After: {after}\r\n"
            client.sendall(
                f"HTTP/1.1 {status} X\r\n{extra}Content-Length: {len(fault.body)}\r\n\r\n".encode() + fault.body
            )
            return True
        if kind == "ignore_range":
            for name in ("range", "x-ms-range"):
                headers.pop(name, None)
        upstream.sendall(
            (line + "\r\n" + "".join(f"{k}: {v}\r\n" for k, v in headers.items()) + "\r\n").encode("latin-1")
        )
        answer = _head(outgoing)
        if answer is None:
            return False
        status_line, found = answer
        body = b"" if method == "HEAD" or " 304" in status_line or " 204" in status_line else _body(outgoing, found)
        if kind == "etag":
            found["etag"] = '"another"'
        if kind == "wrong_length" and "content-range" in found:
            found["content-range"] = re.sub(r"-(\d+)/", lambda m: f"-{int(m[1]) - 1}/", found["content-range"])
        if kind == "truncate":
            found["content-length"] = str(len(body))
            found.pop("transfer-encoding", None)
            client.sendall(_bytes(status_line, found) + body[: len(body) // 2])
            return False
        if "transfer-encoding" in found:
            del found["transfer-encoding"]
        if method != "HEAD":
            found["content-length"] = str(len(body))
        client.sendall(_bytes(status_line, found) + body)
        return found.get("connection", "").lower() != "close"


def _bytes(line: str, headers: dict[str, str]) -> bytes:
    return (line + "\r\n" + "".join(f"{k}: {v}\r\n" for k, v in headers.items()) + "\r\n").encode("latin-1")


def _head(stream: object) -> Head | None:
    read: Callable[[], bytes] = stream.readline  # type: ignore[attr-defined]
    line = read().decode("latin-1").rstrip("\r\n")
    if not line:
        return None
    headers: dict[str, str] = {}
    while field := read().decode("latin-1").rstrip("\r\n"):
        name, _, value = field.partition(":")
        headers[name.lower()] = value.strip()
    return line, headers


def _body(stream: object, headers: dict[str, str]) -> bytes:
    read: Callable[[int], bytes] = stream.read  # type: ignore[attr-defined]
    if headers.get("transfer-encoding", "").lower() == "chunked":
        parts = []
        while size := int(stream.readline().split(b";")[0], 16):  # type: ignore[attr-defined]
            parts.append(read(size))
            stream.readline()  # type: ignore[attr-defined]
        stream.readline()  # type: ignore[attr-defined]
        return b"".join(parts)
    return read(int(headers.get("content-length", "0")))
