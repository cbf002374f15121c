"""A server far away, on loopback: ranges of a folder's files, each request and each new connection delayed.

    python benchmarks/servers.py FOLDER [--request-ms 60] [--connection-ms 120] [--certificate FILE]

It prints its port, and that of TLS where there is a certificate (its key beside it, as .key). /-/counts tells
connections, requests and bytes since the last time it was asked, without delay. Under /api/models/org/model and
/org/model/resolve/ it speaks as the hub does, so that the hub's client can be measured on the same files.
"""

import argparse
import asyncio
import hashlib
import json
import os
import re
import ssl
import sys
from pathlib import Path

_RANGE = re.compile(rb"\r\nrange: *bytes=(\d+)-(\d+)", re.IGNORECASE)
_COMMIT = "0123456789abcdef0123456789abcdef01234567"
_REPOSITORY = "org/model"


class Far:
    """The server's state: its files, and what it has counted."""

    def __init__(self, folder: Path, request_s: float, connection_s: float) -> None:
        self.folder = folder
        self.request_s = request_s
        self.connection_s = connection_s
        self.counts = {"connections": 0, "requests": 0, "bytes": 0}
        self.files = {path.name: path.stat().st_size for path in sorted(folder.iterdir()) if path.is_file()}
        self.descriptors = {name: os.open(folder / name, os.O_RDONLY) for name in self.files}
        for descriptor, size in ((self.descriptors[name], size) for name, size in self.files.items()):
            os.pread(descriptor, min(size, 1 << 17), 0)  # from a warm disk
        self.listing = self._information()

    def _information(self) -> bytes:
        siblings = []
        for name, size in self.files.items():
            one = {"rfilename": name, "size": size, "blobId": _digest(name, "sha1")}
            if name.endswith(".safetensors"):
                one["lfs"] = {"sha256": _digest(name, "sha256"), "size": size, "pointerSize": 135}
            siblings.append(one)
        about = {"id": _REPOSITORY, "modelId": _REPOSITORY, "sha": _COMMIT, "tags": [], "downloads": 0, "likes": 0}
        return json.dumps({**about, "private": False, "siblings": siblings}).encode()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection, to its end."""
        counted = False
        try:
            await asyncio.sleep(self.connection_s)
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                method, target, _ = head.split(b" ", 2)
                path = target.decode().partition("?")[0].lstrip("/")
                if path == "-/counts":
                    body = json.dumps(self.counts).encode()
                    self.counts.update(dict.fromkeys(self.counts, 0))
                    writer.write(_answer(200, {}, len(body)) + body)
                    continue
                self.counts["connections"] += not counted
                self.counts["requests"] += 1
                counted = True
                await asyncio.sleep(self.request_s)
                answer, body = self._reply(path, head)
                if method == b"HEAD":
                    body = b""
                self.counts["bytes"] += len(answer) + len(body)
                writer.write(answer)
                writer.write(body)
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()

    def _reply(self, path: str, head: bytes) -> tuple[bytes, bytes]:
        if path.startswith(f"api/models/{_REPOSITORY}"):
            return _answer(200, {"Content-Type": "application/json"}, len(self.listing)), self.listing
        name = path.rpartition("/")[2]
        if name not in self.files:
            return _answer(404, {"X-Error-Code": "EntryNotFound"}, 0), b""
        size, begin, status = self.files[name], 0, 200
        end = size
        headers = {"ETag": f'"{_digest(name, "sha1")}"', "Accept-Ranges": "bytes", "X-Repo-Commit": _COMMIT}
        if found := _RANGE.search(head):
            begin, end, status = int(found[1]), min(int(found[2]) + 1, size), 206
            headers["Content-Range"] = f"bytes {begin}-{end - 1}/{size}"
        if f"if-none-match: {headers['ETag']}".encode() in head.lower():
            return _answer(304, headers, 0), b""
        body = os.pread(self.descriptors[name], end - begin, begin) if end - begin < 1 << 26 else b""
        return _answer(status, headers, end - begin), body


def _digest(name: str, kind: str) -> str:
    return hashlib.new(kind, name.encode()).hexdigest()


def _answer(status: int, headers: dict[str, str], length: int) -> bytes:
    lines = [f"HTTP/1.1 {status} -", *(f"{name}: {value}" for name, value in headers.items())]
    return "\r\n".join([*lines, f"Content-Length: {length}", "", ""]).encode()


async def _run(far: Far, certificate: Path | None) -> None:
    contexts: list[ssl.SSLContext | None] = [None]
    if certificate is not None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate, certificate.with_suffix(".key"))
        contexts.append(context)
    servers = [
        await asyncio.start_server(far.serve, "127.0.0.1", 0, backlog=1024, limit=1 << 16, ssl=each)
        for each in contexts
    ]
    print(*(server.sockets[0].getsockname()[1] for server in servers), flush=True)
    await asyncio.gather(*(server.serve_forever() for server in servers))


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path)
    parser.add_argument("--request-ms", type=float, default=60)
    parser.add_argument("--connection-ms", type=float, default=120)
    parser.add_argument("--certificate", type=Path)
    chosen = parser.parse_args()
    delays = chosen.request_ms / 1000, chosen.connection_ms / 1000
    try:
        asyncio.run(_run(Far(chosen.folder, *delays), chosen.certificate))
    except KeyboardInterrupt:
        sys.exit(0)
