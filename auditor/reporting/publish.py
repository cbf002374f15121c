"""Adds reports to a static site: only what changes is written, and at any moment the site is whole.

Every file is written under another name and renamed. Reports come first, then the pages that link to them, then
the record, and the index last: whoever reads, or ends the publisher, at any moment finds pages whose links lead
somewhere. A lock keeps two publishers from losing each other's reports.
"""

import os
import stat
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from pydantic import ValidationError

from auditor.errors import SourceError, UsageError
from auditor.reporting.places import is_checkpoint
from auditor.reporting.saved import read_report
from auditor.text import plural, shown, shown_json
from auditor_reports import html, site
from auditor_reports.redact import redact
from auditor_schemas.report import AuditReport

RECORD = "site.json"
INDEX = "index.html"
CHECKPOINTS = "checkpoints"
LOCK = ".auditor-lock"
PARTIAL = ".auditor-partial"
RECORD_BYTES = 64 << 20
WAIT_SECONDS = 60.0


class Published(NamedTuple):
    """What a publication did. `reports` and `checkpoints` count what the site holds now."""

    page: Path
    reports: int
    checkpoints: int
    added: int
    written: int

    def summary(self) -> str:
        """One line for a person."""
        holds = f"{plural(self.reports, 'report')} of {plural(self.checkpoints, 'checkpoint')}"
        return f"{shown(str(self.page))}: {holds}, {self.added:,} new; {plural(self.written, 'file')} written"


def publish(reports: Sequence[str], directory: str, *, wait: float = WAIT_SECONDS) -> Published:
    """Add reports to the site in `directory`, which is made where it is not there.

    All reports are read and judged before anything is written. `wait` is how many seconds another publisher may
    take. Raises SourceError for a file that is no report of auditor, UsageError where `directory` is no site.
    """
    documents = [_ready(path) for path in reports]
    root = Path(directory)
    if root.exists() and not root.is_dir():
        raise UsageError(f"--site {shown(directory)}: is a file: give a folder")
    if is_checkpoint(directory):
        raise UsageError(f"--site {shown(directory)}: is a checkpoint, which is never written to: give another folder")
    try:
        root.mkdir(parents=True, exist_ok=True)
        with _lock(root, wait):
            return _write_site(root, documents)
    except OSError as error:
        raise SourceError(
            f"cannot write {shown(str(error.filename or directory))}: {error.strerror}", code="not_saved"
        ) from error


def _ready(path: str) -> tuple[AuditReport, str, site.Entry]:
    """A report fit to be published, its JSON, and its entry."""
    report = read_report(path)
    if report.tool.name != "auditor":
        raise SourceError(f"{shown(path)}: not a report of auditor: tool.name is {shown(report.tool.name[:64])}")
    report = redact(report)
    document = shown_json(report.model_dump_json(indent=2)) + "\n"
    return report, document, site.entry(report, document)


def _write_site(root: Path, documents: Sequence[tuple[AuditReport, str, site.Entry]]) -> Published:
    before = _record(root)
    record = site.add(before, (entry for _, _, entry in documents))
    _sweep(root)
    written = 0
    if not (root / INDEX).exists():  # an index of nothing, so that no page leads back to where nothing is yet
        written += _put(root / RECORD, _record_text(before)) + _put(root / INDEX, site.index_page(before))
    for report, document, entry in documents:
        place = _folder(_folder(root / CHECKPOINTS) / site.folder(entry.uri))
        written += _put(place / f"{entry.id}.json", document)
        written += _put(place / f"{entry.id}.html", html.render(report))
    pages = site.checkpoint_pages(record)
    for folder, page in pages.items():
        place = _folder(_folder(root / CHECKPOINTS) / folder)
        written += _put(place / INDEX, page)
    written += _put(root / RECORD, _record_text(record))
    written += _put(root / INDEX, site.index_page(record))
    return Published(
        page=root / INDEX,
        reports=len(record.entries),
        checkpoints=len(pages),
        added=len(record.entries) - len(before.entries),
        written=written,
    )


def _record_text(record: site.Record) -> str:
    return shown_json(record.model_dump_json(indent=1)) + "\n"


def _record(root: Path) -> site.Record:
    """What the site holds; an index that is not the publisher's own is never overwritten."""
    path = root / RECORD
    try:
        return site.Record.model_validate_json(_read(path, RECORD_BYTES))
    except FileNotFoundError:
        if (root / INDEX).exists():
            raise UsageError(
                f"--site {shown(str(root))}: has an {INDEX} and no {RECORD}: name an empty folder, or a site"
            ) from None
        return site.Record()
    except ValidationError as error:
        first = error.errors(include_input=False)[0]
        where = shown(".".join(map(str, first["loc"])) or "the document")
        raise UsageError(
            f"{shown(str(path))}: not the record of a site: {where}: {shown(first['msg'].lower())}"
        ) from error


def _read(path: Path, most: int) -> bytes:
    """A regular file of the site's own, of a bounded size: what else is there by its name is somebody's trap."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
    with open(descriptor, "rb") as file:
        _own(file.fileno(), path)
        data = file.read(most + 1)
    if len(data) > most:
        raise UsageError(f"{shown(str(path))}: larger than {most:,} bytes: not a site's")
    return data


def _own(descriptor: int, path: Path) -> None:
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        raise UsageError(f"{shown(str(path))}: is no file of the site's own: name an empty folder, or a site")


def _folder(path: Path) -> Path:
    """A folder of the site, made where it is not there; a link would lead what is written out of the site."""
    path.mkdir(exist_ok=True)
    if path.is_symlink():
        raise UsageError(f"{shown(str(path))}: is a link: a site's folders are its own")
    return path


def _sweep(root: Path) -> None:
    """Remove what a publisher that was ended left unfinished."""
    for leftover in [*root.glob(f"*{PARTIAL}"), *(root / CHECKPOINTS).glob(f"*/*{PARTIAL}")]:
        if not leftover.is_dir() or leftover.is_symlink():
            leftover.unlink()


def _put(path: Path, text: str) -> bool:
    """Write a file whole, unless it is the same already."""
    data = text.encode("utf-8")
    try:
        status = path.lstat()
        if stat.S_ISREG(status.st_mode) and status.st_size == len(data) and _read(path, len(data)) == data:
            return False
    except FileNotFoundError:
        pass
    partial = path.with_name(path.name + PARTIAL)
    try:
        with open(partial, "xb") as file:  # never through a link that stands there
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(partial, path)
    except OSError:
        partial.unlink(missing_ok=True)
        raise
    return True


@contextmanager
def _lock(root: Path, wait: float) -> Iterator[None]:
    """The site for one publisher alone; the lock goes with the process that holds it."""
    import fcntl

    deadline = time.monotonic() + wait
    flags = os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
    with open(os.open(root / LOCK, flags, 0o666), "ab") as file:
        _own(file.fileno(), root / LOCK)
        while True:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() >= deadline:
                    raise SourceError(
                        f"{shown(str(root))}: another publisher is at work since {wait:.0f} seconds: try again"
                    ) from None
                time.sleep(0.05)
        yield
