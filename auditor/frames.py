"""How two processes of one audit talk: frames in a file in memory, and a bell that is rung for each."""

import os
import socket
from collections.abc import Iterator
from typing import Any, NamedTuple

# Kinds of frames: the listing, a file's start or why there is none, a header, an index by file, an index that agrees
# with the headers, why there is nothing, the end of what comes by itself, an answer.
LISTED, START, HEADER, INDEXED, PLACED, FAILED, END, ANSWER = b"l", b"f", b"h", b"n", b"i", b"x", b"e", b"a"
_PREFIX = 9  # a frame's kind and the lengths of its two parts, four bytes each
_LENGTH = 4  # bytes that say how long a question is
_RINGS = 4096


class Frame(NamedTuple):
    """One message: its kind, a value as msgpack, and bytes that belong to it."""

    kind: bytes
    value: bytes
    behind: bytes


class Frames:
    """The frames of one file, as they come."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._position = 0

    def come(self) -> Iterator[Frame]:
        """The frames that are there whole."""
        available = os.fstat(self._descriptor).st_size
        while self._position + _PREFIX <= available:
            prefix = os.pread(self._descriptor, _PREFIX, self._position)
            begin = self._position + _PREFIX
            middle = begin + int.from_bytes(prefix[1:5], "little")
            end = middle + int.from_bytes(prefix[5:], "little")
            if end > available:
                break
            value = os.pread(self._descriptor, middle - begin, begin)
            behind = os.pread(self._descriptor, end - middle, middle) if end > middle else b""
            self._position = end
            yield Frame(prefix[:1], value, behind)

    def close(self) -> None:
        """No more are wanted."""
        os.close(self._descriptor)


def send(descriptor: int, bell: socket.socket, kind: bytes, value: Any, behind: bytes = b"") -> None:
    """Write a frame, and ring for it."""
    from msgspec import msgpack

    data = msgpack.encode(value)
    prefix = kind + len(data).to_bytes(4, "little") + len(behind).to_bytes(4, "little")
    for part in (prefix + data, behind):
        left = memoryview(part)
        while left:
            left = left[os.write(descriptor, left) :]
    ring(bell)


def ring(bell: socket.socket) -> None:
    """Tell the other end that there is something, or time for something."""
    try:
        bell.send(b".")
    except OSError:  # rung often enough, or nobody is there to hear it
        pass


def heard(bell: socket.socket) -> bool:
    """Take the rings that have come; false where the other end is closed."""
    try:
        return bool(bell.recv(_RINGS))
    except OSError:  # closed with rings of ours unheard
        return False


def ask(bell: socket.socket, question: bytes) -> None:
    """Send a question to who has told all that it tells by itself."""
    try:
        bell.sendall(len(question).to_bytes(_LENGTH, "little") + question)
    except OSError:  # it has ended, which is noticed by who waits for the answer
        pass


def asked(bell: socket.socket) -> bytes | None:
    """Wait for the question; None where none will come."""
    bell.setblocking(True)
    length = _exactly(bell, _LENGTH)
    question = None if length is None else _exactly(bell, int.from_bytes(length, "little"))
    bell.setblocking(False)
    return question


def _exactly(bell: socket.socket, count: int) -> bytes | None:
    parts = b""
    while len(parts) < count:
        try:
            part = bell.recv(count - len(parts))
        except OSError:
            return None
        if not part:
            return None
        parts += part
    return parts
