"""What a backup holds, file by file with sizes and SHA-256s: written last, and believed of nothing but this."""

import errno
import hashlib
import os
import re
import stat
from pathlib import Path
from typing import BinaryIO, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from auditor.errors import UsageError
from auditor.text import shown

MANIFEST = "manifest.json"
DATABASES = {"sqlite": "auditor.sqlite3", "postgresql": "auditor.dump"}
_REPORT = re.compile(r"reports/([0-9a-f]{2})/(\1[0-9a-f]{62})\.json\.gz")
_LARGEST = 1 << 30
_BLOCK = 1 << 20


class File(BaseModel):
    """One file."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    size: int = Field(ge=0)
    sha256: str = Field(pattern="^[0-9a-f]{64}$")


class Manifest(BaseModel):
    """One backup. `made_at` is the database's clock; `missing` are reports that were not there, or not intact."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    format: Literal[1] = 1
    tool: str
    revision: str
    made_at: int
    database: Literal["sqlite", "postgresql"]
    files: dict[str, File]
    missing: tuple[str, ...] = ()

    @property
    def reports(self) -> list[str]:
        """The reports' own SHA-256s."""
        return [found[2] for name in self.files if (found := _REPORT.fullmatch(name))]

    def check(self, folder: Path) -> None:
        """Raise UsageError where a file is not there, or not as it was written; names lead nowhere else."""
        for name, file in self.files.items():
            if name != DATABASES[self.database] and not _REPORT.fullmatch(name):
                raise UsageError(f"{shown(str(folder / MANIFEST))}: {shown(name[:200])}: no file of a backup")
            if (found := described(folder / name)) != file:
                said = "is not there" if found is None else f"has {found.size:,} bytes, SHA-256 {found.sha256}"
                wanted = f"the manifest has {file.size:,} bytes, SHA-256 {file.sha256}"
                raise UsageError(f"{shown(str(folder / name))}: {said}; {wanted}")
        if DATABASES[self.database] not in self.files:
            raise UsageError(f"{shown(str(folder / MANIFEST))}: has no database")


def read_manifest(folder: Path) -> Manifest:
    """The manifest of a backup. Raises UsageError where there is none."""
    file = folder / MANIFEST
    try:
        with _regular(file) as opened:
            return Manifest.model_validate_json(opened.read(_LARGEST))
    except OSError as error:
        raise UsageError(f"{shown(str(file))}: {error.strerror}: a backup that was finished has a manifest") from error
    except ValidationError as error:
        first = error.errors(include_input=False)[0]
        where = ".".join(map(str, first["loc"])) or "the document"
        raise UsageError(f"{shown(str(file))}: {shown(where)}: {shown(first['msg'].lower())}") from error


def described(file: Path) -> File | None:
    """A file's size and SHA-256, or None where there is none, or something else than a file."""
    digest, size = hashlib.sha256(), 0
    try:
        with _regular(file) as opened:
            while block := opened.read(_BLOCK):
                digest.update(block)
                size += len(block)
    except OSError:
        return None
    return File(size=size, sha256=digest.hexdigest())


def _regular(file: Path) -> BinaryIO:
    """A file, opened; a link, a pipe or a device in its place is none. Raises OSError."""
    descriptor = os.open(file, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise OSError(errno.EINVAL, "not a regular file", str(file))
    return open(descriptor, "rb")
