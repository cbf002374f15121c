"""How far a reading is: one line on a terminal's standard error for a person, or lines of JSON there for a program."""

import argparse
import json
import os
import sys
import time

from auditor.text import duration, plural, shown, size

TYPE_CHECKING = False  # typing itself costs an import
if TYPE_CHECKING:
    from typing import Any, TextIO

    from auditor.content import Standing

_READING = "reading tensor data: "
_PAUSE_S = 0.5  # between two lines of JSON


def progress_options(parser: "argparse._ActionsContainer") -> None:
    """How progress is told."""
    parser.add_argument(
        "--progress",
        choices=["auto", "json", "none"],
        default="auto",
        help="how far it is, on standard error: a line on a terminal, or lines of JSON (default: auto, the first)",
    )


def progress_of(options: argparse.Namespace) -> "ProgressLine | ProgressLines | None":
    """What tells progress: a line on a terminal, lines of JSON where they are asked for, or nothing."""
    if options.progress == "json":
        return ProgressLines()
    if options.progress == "none" or options.quiet or not sys.stderr.isatty():
        return None
    return ProgressLine()


def told_by(progress: "ProgressLine | ProgressLines | None") -> "dict[str, Any]":
    """What a reading tells, and to whom: the fields of `Reading` for it. Warnings are said in any case."""
    if progress is None:
        return {"warning": _warn}
    return {"standing": progress.standing, "preparing": progress.preparing, "warning": progress.warning}


class _Rate:
    """Bytes a second since the first of them."""

    def __init__(self) -> None:
        self._begin: tuple[float, int] | None = None

    def at(self, now: float, done: int) -> float:
        """The rate now; 0 in the first second and while nothing more was read."""
        if self._begin is None:
            self._begin = (now, done)
        begin, before = self._begin
        return (done - before) / (now - begin) if now - begin > 1 else 0.0


class ProgressLine:
    """One line, of shards and then of bytes; only when an audit takes long enough to wonder."""

    def __init__(self, stream: "TextIO | None" = None) -> None:
        self._stream = stream or sys.stderr
        self._begin = self._last = time.monotonic()
        self._drawn = False
        self._first: int | None = None
        self._rate = _Rate()

    def __call__(self, done: int, total: int) -> None:
        """Draw at most ten times a second, and not in the first quarter of one."""
        now = time.monotonic()
        if now - self._begin < 0.25 or (now - self._last < 0.1 and done < total):
            return
        rate = done / max(now - self._begin, 0.001)
        left = f", about {duration((total - done) / rate)} left" if 0 < done < total else ""
        self._draw(now, f"reading headers: {done:,} of {total:,} shards{left}")

    def standing(self, at: "Standing") -> None:
        """The same, and who reads, where that is a cluster."""
        more = ""
        if at.nodes > 1:
            more += f"; {plural(at.nodes, 'node')}, {plural(at.workers, 'worker')}"
            more += f", {at.units_left:,} of {plural(at.units, 'unit')} left"
        if at.retries:
            more += f", {at.retries:,} begun again"
        self.content(at.done, at.total, more)

    def content(self, done: int, total: int, more: str = "") -> None:
        """Tensor bytes read, their rate since the first of them, and the time left."""
        now = time.monotonic()
        rate = self._rate.at(now, done)
        if self._first is None:
            self._first = done
        if now - self._last < 0.1 and done < total:
            return
        text = f"{_READING}{size(done)} of {size(total)}"
        if done == self._first:
            text += ", preparing"
        elif rate:
            text += f", {size(int(rate))}/s, about {duration((total - done) / rate)} left"
        self._draw(now, text + more)

    def preparing(self, why: str) -> None:
        """Why tensor bytes are not read yet."""
        self._draw(time.monotonic(), f"{_READING}{why}")

    def warning(self, what: str) -> None:
        """A line that stays."""
        self.close()
        _warn(what)

    def _draw(self, now: float, text: str) -> None:
        self._last, self._drawn = now, True
        columns = self._columns()
        if columns and len(text) >= columns:  # what wraps stays on the screen
            text = text.removeprefix(_READING)[: columns - 1]
        self._stream.write(f"\r\x1b[K{text}")
        self._stream.flush()

    def _columns(self) -> int:
        """How wide the terminal is; 0 where nothing tells."""
        try:
            return os.get_terminal_size(self._stream.fileno()).columns
        except OSError:
            return 0

    def close(self) -> None:
        """Remove the line."""
        if self._drawn:
            self._drawn = False
            self._stream.write("\r\x1b[K")
            self._stream.flush()


class ProgressLines:
    """Lines of JSON, each an object with `what` it tells of; at most two a second, but the last of a kind always."""

    def __init__(self, stream: "TextIO | None" = None) -> None:
        self._stream = stream or sys.stderr
        self._last = 0.0
        self._rate = _Rate()

    def __call__(self, done: int, total: int) -> None:
        """Shards whose header is read."""
        if self._due(done, total):
            self._say(what="shards", done=done, total=total)

    def standing(self, at: "Standing") -> None:
        """Tensor bytes, their rate a second, seconds left (null while nothing tells), and who reads."""
        rate = self._rate.at(time.monotonic(), at.done)
        if self._due(at.done, at.total):
            left = round((at.total - at.done) / rate, 1) if rate else 0.0 if at.done == at.total else None
            self._say(what="bytes", **at._asdict(), rate=round(rate), left_s=left)

    def preparing(self, why: str) -> None:
        """Why tensor bytes are not read yet."""
        self._say(what="preparing", why=shown(why))

    def warning(self, what: str) -> None:
        """What to think of beside the report."""
        self._say(what="warning", why=shown(what))

    def _due(self, done: int, total: int) -> bool:
        now = time.monotonic()
        if now - self._last < _PAUSE_S and done < total:
            return False
        self._last = now
        return True

    def _say(self, **told: object) -> None:
        self._stream.write(json.dumps(told) + "\n")
        self._stream.flush()

    def close(self) -> None:
        """Every line stays."""


def _warn(what: str) -> None:
    try:
        sys.stderr.write(f"auditor: warning: {shown(what)}\n")
        sys.stderr.flush()
    except OSError:
        pass  # nobody can be told
