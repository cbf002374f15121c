"""PostgreSQL's own programs for copying a database: pg_dump and pg_restore."""

import os
import re
import shutil
import subprocess
from pathlib import Path

from sqlalchemy import URL, make_url

from auditor.errors import OutputError, UsageError
from auditor.text import shown

_DEBIAN = Path("/usr/lib/postgresql")


def dump(url: str, file: Path) -> None:
    """Copy a database into a file, as it was at one moment. Raises UsageError, OutputError."""
    _run("pg_dump", url, "--format=custom", "--no-owner", "--no-privileges", f"--file={file}")


def restore(url: str, file: Path) -> None:
    """Make a database of such a file, whole or not at all. Raises UsageError, OutputError."""
    _run(
        "pg_restore", url, "--exit-on-error", "--single-transaction", "--no-owner", "--no-privileges", file, option="-d"
    )


def program(name: str) -> str:
    """A program of PostgreSQL's, the newest where Debian keeps several. Raises UsageError where there is none."""
    every = [(int(each.name), each / "bin" / name) for each in _DEBIAN.glob("[0-9]*") if each.name.isdigit()]
    newest = [str(path) for _, path in sorted(every, reverse=True) if path.exists()]
    found = newest[0] if newest else shutil.which(name)
    if found is None:
        raise UsageError(f"{name} is not installed: it comes with PostgreSQL's client (Debian: postgresql-client)")
    return found


def _run(name: str, url: str, *arguments: object, option: str = "--dbname") -> None:
    """Run a program on a database; the password travels in the environment, where other users do not see it."""
    parsed = make_url(url)
    environment = dict(os.environ)
    if parsed.password is not None:
        environment["PGPASSWORD"] = str(parsed.password)
    bare = URL.create(
        "postgresql",
        username=parsed.username,
        host=parsed.host,
        port=parsed.port,
        database=parsed.database,
        query=parsed.query,
    )
    given = [program(name), option, bare.render_as_string(), *map(str, arguments)]
    done = subprocess.run(  # noqa: S603  # PostgreSQL's own program, and no shell
        given, env=environment, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False
    )
    if done.returncode:
        lines = [line for line in done.stderr.splitlines() if re.search(r"error|fatal", line)] or [done.stderr.strip()]
        raise OutputError(f"{name} ended with {done.returncode}: {shown(lines[0][:500])}")
