"""One attempt at an audit, in three steps that may each run twice without harm: begin, examine, conclude."""

from __future__ import annotations

import logging
import shutil
import threading
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, suppress
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import msgspec

from auditor.private import PrivateFolder
from auditor.service.audits.life import Audits, Result
from auditor.service.audits.order import HEADERS
from auditor.service.audits.process import Process
from auditor.service.logs import bound
from auditor.service.store.database import away
from auditor.service.store.reports import LARGEST
from auditor.version import __version__

if TYPE_CHECKING:
    from auditor.service.settings import Settings
    from auditor.service.store.reports import Reports

_log = logging.getLogger(__name__)
_REPORT, _POLICY, _BASELINE, _RESUME = "report.json", "policy.toml", "baseline.json", "resume"
_PAUSE_S = 2.0
_KEEP_S = 10.0
_T = TypeVar("_T")


class _Source(msgspec.Struct):
    fingerprint: str | None = None


class _Tool(msgspec.Struct):
    version: str


class _Finding(msgspec.Struct):
    severity: str
    status: str
    caused_by: str | None = None


class _Coverage(msgspec.Struct):
    headers_read: int = 0
    payload_bytes_read: int = 0


class _Report(msgspec.Struct):
    """What an audit's row says of its report."""

    schema_version: str
    verdict: str
    tool: _Tool
    source: _Source
    incomplete: tuple[str, ...]
    findings: tuple[_Finding, ...]
    incomplete_codes: tuple[str, ...] = ()
    coverage: _Coverage = msgspec.field(default_factory=_Coverage)

    @property
    def empty(self) -> bool:
        """Whether nothing was read that it could tell of."""
        return self.verdict == "incomplete" and not self.coverage.headers_read


class Attempts:
    """What a worker does with its jobs, and the processes it has for that."""

    def __init__(self, audits: Audits, reports: Reports, settings: Settings, worker: str) -> None:
        self._audits = audits
        self._reports = reports
        self._settings = settings
        self._worker = worker
        self._running: dict[tuple[str, int], Process] = {}
        self._lock = threading.Lock()
        self._stopping = False
        self._told: dict[tuple[str, int], tuple[str | None, str | None]] = {}

    # --- the steps ---

    def begin(self, audit: str, n: int) -> dict[str, Any] | None:
        """Take the attempt; None where it is not to be made."""
        if self._stopping:
            return None
        with _told_of(audit, n):
            row = _patient(lambda: self._audits.begin(audit, n, self._worker))
            if row is None:
                return None
            _log.info("attempt begun", extra={"worker": self._worker, "depth": row.depth})
            return dict(row._mapping)

    def examine(self, audit: str, n: int, row: dict[str, Any]) -> dict[str, Any] | None:
        """Run the process to its end and keep its report; None where the attempt is no longer this worker's."""
        with _told_of(audit, n):
            try:
                result = self._examine(audit, n, row)
            except Exception as error:  # an edge: an attempt ends with a cause, whatever happens
                _log.exception("attempt failed")
                result = Result(causes=("crashed",), reason=f"{type(error).__name__}: {error}"[:500])
            if result is not None:
                return asdict(result)
            if _patient(lambda: self._audits.ended(audit)):
                self.clear(audit)
            return None

    def conclude(self, audit: str, n: int, result: dict[str, Any]) -> str | None:
        """End the attempt as it came out."""
        result["causes"] = tuple(result["causes"])
        with _told_of(audit, n):
            state = _patient(lambda: self._audits.conclude(audit, n, self._worker, Result(**result)))
            if state in ("finished", "failed"):
                self.clear(audit)
            _log.info("attempt ended", extra={"state": state, "verdict": result["verdict"], "causes": result["causes"]})
            return state

    # --- beside them ---

    def watch(self) -> None:
        """Keep how far attempts are, and end those that are no longer this worker's. Called every second."""
        with self._lock:
            running = dict(self._running)
        if not running:
            return
        held = self._audits.held(self._worker)
        news = {}
        for key, process in running.items():
            if key not in held:
                process.end()
                continue
            now = (process.progress, process.log.text())
            before = self._told.get(key, (None, ""))
            told = tuple(each if each != was else None for each, was in zip(now, before, strict=True))
            if told != (None, None):
                news[key] = told
                self._told[key] = now
        if news:
            self._audits.tell(self._worker, news)  # type: ignore[arg-type]  # pairs
        for key in self._told.keys() - running.keys():
            del self._told[key]

    def stop(self) -> None:
        """Begin nothing more, and end every process."""
        self._stopping = True
        with self._lock:
            running = list(self._running.values())
        for each in running:
            each.end()

    def clear(self, audit: str) -> None:
        """Remove what attempts at an audit kept for the next one."""
        shutil.rmtree(self._settings.work / audit, ignore_errors=True)
        with suppress(OSError):  # what is left is found by retention
            self._reports.kept.forget(audit)

    def _examine(self, audit: str, n: int, row: dict[str, Any]) -> Result | None:
        folder = self._settings.work / audit
        PrivateFolder(self._settings.work)
        files = PrivateFolder(folder)
        (folder / _REPORT).unlink(missing_ok=True)
        kept = self._reports.kept
        if row["queue"] != HEADERS:
            _patient(lambda: kept.fetch(audit, folder / _RESUME))
        order = self._order(row, folder, files)
        same: list[Any] = []

        def resolved(commit: str) -> bool:
            found = self._audits.same(row, commit, __version__)
            if found is not None:
                same.append(found)
            return found is None

        queue = self._queue(row)
        process = Process(order, folder, resolved=resolved)
        key = (audit, n)
        with self._lock:
            self._running[key] = process
        if self._stopping:
            process.end()
        try:
            code, late = self._ended(process, queue.hours * 3600, partial(kept.keep, audit, folder / _RESUME))
        finally:
            with self._lock:
                self._running.pop(key, None)
        with suppress(Exception):  # the log is a courtesy; what decides is told by `conclude`
            self._audits.tell(self._worker, {key: (None, process.log.text())})
        if same:
            return _linked(same[0], process.commit)
        if process.ended_by_us and not late:
            return None
        return self._came_out(process, folder / _REPORT, code, late)

    def _ended(self, process: Process, seconds: float, keep: Callable[[], None]) -> tuple[int, bool]:
        """The exit code, and whether time ran out; what is finished is kept meanwhile."""
        deadline = time.monotonic() + seconds
        while (left := deadline - time.monotonic()) > 0:
            try:
                return process.wait(min(left, _KEEP_S)), False
            except TimeoutError:
                with suppress(OSError):  # the next time, or not at all: it spares work, no more
                    keep()
        process.end()
        return process.wait(60), True

    def _came_out(self, process: Process, file: Path, code: int, late: bool) -> Result:
        """What an attempt gave. A verdict is read from a whole report, never from an exit code."""
        if late:
            return Result(causes=("timed_out",), reason="it took longer than the settings allow")
        report, data = _read(file)
        if report is not None and report.empty and code == 0:
            causes = tuple(dict.fromkeys(report.incomplete_codes))
            return Result(causes=causes, reason="; ".join(report.incomplete)[:2000], resolved=process.commit)
        if report is not None and data is not None and code == 0:
            kept = _patient(lambda: self._reports.put(data))
            return Result(
                report=kept,
                verdict=report.verdict,
                errors=_count(report, "error"),
                warnings=_count(report, "warning"),
                causes=tuple(dict.fromkeys(report.incomplete_codes)) if report.verdict == "incomplete" else (),
                reason="; ".join(report.incomplete)[:2000] or None,
                resolved=process.commit,
                fingerprint=report.source.fingerprint,
                tool=report.tool.version,
                bytes_read=report.coverage.payload_bytes_read,
            )
        if process.error is not None:
            return Result(causes=(process.error["cause"],), reason=process.error["reason"])
        if code < 0:
            return Result(causes=("killed",), reason=f"its process was ended by signal {-code}")
        return Result(causes=("no_report",), reason=f"its process ended with {code} and left no whole report")

    def _order(self, row: dict[str, Any], folder: Path, files: PrivateFolder) -> dict[str, Any]:
        settings, sources, queue = self._settings, self._settings.sources, self._queue(row)
        policy = baseline = None
        if row["policy_text"] is not None:
            files.write(_POLICY, row["policy_text"].encode(), durable=False)
            policy = str(folder / _POLICY)
        if row["baseline"] is not None:
            kept = _patient(lambda: self._reports.get(row["baseline"]))
            files.write(_BASELINE, kept or b"", durable=False)
            baseline = str(folder / _BASELINE)
        return {
            "source": row["source"],
            "revision": row["revision"],
            "depth": row["depth"],
            "family": row["family"],
            "seed": row["seed"],
            "policy": policy,
            "baseline": baseline,
            "resume": str(folder / _RESUME),
            "report": str(folder / _REPORT),
            "device": settings.device,
            "jobs": settings.jobs,
            "engine": settings.engine if row["depth"] == "full" else "local",
            # A bucket is allowed by its name; where it is stored is its store's business.
            "hosts": None if row["source"].startswith(("s3://", "gs://", "az://")) else list(sources.hosts),
            "private": sources.private,
            "roots": [str(each) for each in sources.roots],
            "limits": {"memory": queue.memory, "files": settings.open_files, "nice": settings.nice},
        }

    def _queue(self, row: dict[str, Any]) -> Any:
        return self._settings.headers if row["queue"] == "headers" else self._settings.content


def _told_of(audit: str, n: int) -> AbstractContextManager[None]:
    """Whose lines are written within."""
    return bound(audit=audit, attempt=f"{audit}.{n}")


def _patient(act: Callable[[], _T]) -> _T:
    """Do something, again and again while the database or the store cannot be had."""
    pause = 0.2
    while True:
        try:
            return act()
        except Exception as error:
            if not (away(error) or isinstance(error, OSError)):
                raise
            _log.warning("cannot be had, again in %.1f s: %s", pause, error)
            time.sleep(pause)
            pause = min(pause * 2, _PAUSE_S)


def _linked(found: Any, commit: str | None) -> Result:
    return Result(
        report=found.report,
        verdict=found.verdict,
        errors=found.errors,
        warnings=found.warnings,
        resolved=commit,
        fingerprint=found.fingerprint,
        tool=found.tool,
        same_as=found.id,
    )


def _read(file: Path) -> tuple[_Report | None, bytes | None]:
    """A whole report as its row needs it, and its bytes; a longer one than is kept is none."""
    try:
        with file.open("rb") as opened:
            data = opened.read(LARGEST + 1)
        if len(data) > LARGEST:
            return None, None
        report = msgspec.json.decode(data, type=_Report)
    except (OSError, msgspec.DecodeError, UnicodeError, RecursionError):
        return None, None
    if report.schema_version != "1" or report.verdict not in ("passed", "failed", "incomplete"):
        return None, None
    return report, data


def _count(report: _Report, severity: str) -> int:
    """Root causes of a severity that are new."""
    return sum(
        each.severity == severity and each.caused_by is None and each.status == "new" for each in report.findings
    )
