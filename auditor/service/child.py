"""`python -m auditor.service.child`: one attempt in a process of its own, told what to do in a line on standard input.

It writes the report to a file and tells on standard output, a JSON object a line, how far it is: `progress`,
`resolved` (after which it waits for a line on standard input), and at last `done` or `error`. It ends when standard
input does, so that no attempt outlives its worker.
"""

import json
import os
import resource
import struct
import sys
import threading
import time
from typing import Any, BinaryIO

# Between two lines of progress.
_PAUSE_S = 0.5
# The longest that there is. Python has no function for it.
_TURN_NS = 100_000_000
_SCHED_SETATTR = {"x86_64": 314, "aarch64": 274}


def main() -> int:
    """Exit code 0 where a whole report was written, 3 where the line `error` says why there is none."""
    given = sys.stdin.buffer.readline()
    if not given:
        return 3
    order: dict[str, Any] = json.loads(given)
    _bound(order["limits"])
    told = _Told()
    try:
        _audit(order, told)
    except BaseException as error:
        told.say(error=_reason(error))
        return 3
    told.say(done=True)
    return 0


class _Told:
    """What the worker is told, line by line."""

    def __init__(self) -> None:
        # Whatever a library prints is log, not protocol.
        self._out: BinaryIO = os.fdopen(os.dup(1), "wb", buffering=0)
        os.dup2(2, 1)
        self._last = 0.0

    def say(self, **message: object) -> None:
        self._out.write(json.dumps(message).encode() + b"\n")

    def shards(self, done: int, total: int) -> None:
        self._progress({"what": "shards", "done": done, "total": total})

    def bytes(self, standing: Any) -> None:
        self._progress({"what": "bytes", **standing._asdict()})

    def preparing(self, why: str) -> None:
        self.say(progress={"what": "preparing", "why": why})

    def _progress(self, told: dict[str, Any]) -> None:
        at = time.monotonic()
        if at - self._last >= _PAUSE_S or told["done"] == told["total"]:
            self._last = at
            self.say(progress=told)


def _bound(limits: dict[str, int]) -> None:
    """Lower priority than whoever answers requests, and no more of the machine than the settings give."""
    os.nice(max(0, limits["nice"] - os.nice(0)))
    if limits["nice"]:
        _take_long_turns(limits["nice"])
    bounds = {
        resource.RLIMIT_CORE: 0,
        resource.RLIMIT_DATA: limits["memory"],
        resource.RLIMIT_NOFILE: limits["files"],
    }
    for what, most in bounds.items():
        _, hard = resource.getrlimit(what)
        most = most if hard == resource.RLIM_INFINITY else min(most, hard)
        resource.setrlimit(what, (most, most))


def _take_long_turns(nice: int) -> None:
    """Have whoever wakes interrupt this process at once, as Linux does for shorter turns than are interrupted.

    An answer takes several turns of several threads, and each would wait for a timer's tick, however low the priority.
    Older systems than Linux 6.12 do without.
    """
    number = _SCHED_SETATTR.get(os.uname().machine)
    if number is not None and sys.platform == "linux":
        import ctypes

        attributes = struct.pack("=IIQiIQQQ", 48, os.SCHED_BATCH, 0, nice, 0, _TURN_NS, 0, 0)
        ctypes.CDLL(None).syscall(number, 0, attributes, 0)


def _end_with(stdin: BinaryIO) -> None:
    """End this process, whatever it is doing, when its worker is gone."""

    def wait() -> None:
        while stdin.read(4096):
            pass
        os._exit(3)

    threading.Thread(target=wait, daemon=True).start()


def _audit(order: dict[str, Any], told: _Told) -> None:
    from auditor.startup import before_numpy, let_no_library_decide

    let_no_library_decide(limited=True)
    before_numpy()
    from auditor.gather import Subject
    from auditor.run import Terms, conduct
    from auditor.sources import open_source
    from auditor.sources.begin import begin
    from auditor_schemas.policy import DEFAULT_LIMITS

    hosts, roots = None if order["hosts"] is None else frozenset(order["hosts"]), tuple(order["roots"])
    source = open_source(
        order["source"],
        symlinks="inside",
        revision=order["revision"],
        hosts=hosts,
        private=order["private"],
        roots=roots,
    )
    if source.remote:
        begin(source, DEFAULT_LIMITS)
    if source.revision is not None:
        told.say(resolved=source.revision)
        if not sys.stdin.buffer.readline():
            os._exit(3)
    _end_with(sys.stdin.buffer)
    subject = Subject(
        source=source,
        named=order["source"],
        family=order["family"],
        symlinks="inside",
        reading=_reading(order, told),
        hosts=hosts,
        private=order["private"],
        roots=roots,
    )
    terms = Terms(policy=order["policy"], baseline=order["baseline"])
    _, report = conduct(subject, terms, told.shards)
    _write(order["report"], report.model_dump_json(indent=2))


def _reading(order: dict[str, Any], told: _Told) -> Any:
    if order["depth"] == "headers":
        return None
    from auditor.content import Reading

    return Reading(
        depth=order["depth"],
        seed=order["seed"],
        device=order["device"],
        jobs=order["jobs"],
        resume=order["resume"],
        engine=order["engine"],
        standing=told.bytes,
        preparing=told.preparing,
    )


def _write(path: str, text: str) -> None:
    from auditor.text import shown_json

    partial = f"{path}.partial"
    with open(partial, "w", encoding="utf-8") as file:
        file.write(shown_json(text) + "\n")
        file.flush()
        os.fsync(file.fileno())
    os.replace(partial, path)


def _reason(error: BaseException) -> dict[str, str]:
    """The cause from the closed list, and a line for a person."""
    from auditor.errors import AuditorError, code_of
    from auditor.text import shown

    if isinstance(error, AuditorError):
        return {"cause": error.code, "reason": shown(str(error))}
    code = code_of(error)
    if code == "out_of_memory":
        return {"cause": code, "reason": "it needed more memory than the settings allow"}
    if os.environ.get("AUDITOR_TRACEBACK"):
        import traceback

        traceback.print_exception(error)
    return {"cause": code, "reason": shown(f"{type(error).__name__}: {error}")}


if __name__ == "__main__":
    code = 3
    try:
        code = main()
    finally:
        os._exit(code)
