"""What attempts have finished, for the next one on whatever machine: beside the reports, where those are in a bucket.

Workers of one machine, or of one shared data folder, find it in that folder and need nothing else.
"""

from pathlib import Path
from typing import Any, Protocol

from auditor.private import PrivateFolder

_LARGEST = 256 << 20


class Kept(Protocol):
    """Small files of an audit. Each method raises OSError where the store cannot be had."""

    def fetch(self, audit: str, folder: Path) -> None:
        """Put what is kept into a folder that is not there yet."""

    def keep(self, audit: str, folder: Path) -> None:
        """Keep what is new in the folder."""

    def forget(self, audit: str) -> None:
        """Remove what was kept."""


class Here:
    """The folder itself is where others look."""

    def fetch(self, audit: str, folder: Path) -> None:
        """Nothing is elsewhere."""

    def keep(self, audit: str, folder: Path) -> None:
        """It is there."""

    def forget(self, audit: str) -> None:
        """The folder is removed by whoever made it."""


class InBucket:
    """Beside the reports, under work/ and the audit's id."""

    def __init__(self, store: Any) -> None:
        self._store = store
        self._seen: dict[str, dict[str, int]] = {}

    def fetch(self, audit: str, folder: Path) -> None:
        """Put what is kept into a folder that is not there yet."""
        if folder.exists():
            return
        import obstore

        files = PrivateFolder(folder)
        try:
            for some in obstore.list(self._store, prefix=f"work/{audit}/"):
                for each in some:
                    path = str(each["path"])
                    name = path.rpartition("/")[2]
                    if name.endswith(".json") and int(each["size"]) <= _LARGEST:
                        files.write(name, bytes(obstore.get(self._store, path).bytes()), durable=False)
        except Exception as error:  # an edge: whatever the store's client raises
            raise unreachable(error) from error
        self._seen[audit] = _times(folder)

    def keep(self, audit: str, folder: Path) -> None:
        """Keep what is new in the folder."""
        import obstore

        seen = self._seen.setdefault(audit, {})
        for name, changed_at in _times(folder).items():
            if seen.get(name) == changed_at:
                continue
            try:
                obstore.put(self._store, f"work/{audit}/{name}", (folder / name).read_bytes())
            except Exception as error:  # an edge: whatever the store's client raises
                raise unreachable(error) from error
            seen[name] = changed_at

    def forget(self, audit: str) -> None:
        """Remove what was kept."""
        import obstore

        self._seen.pop(audit, None)
        try:
            every = [str(each["path"]) for some in obstore.list(self._store, prefix=f"work/{audit}/") for each in some]
            if every:
                obstore.delete(self._store, every)
        except Exception as error:  # an edge: whatever the store's client raises
            raise unreachable(error) from error


def _times(folder: Path) -> dict[str, int]:
    return {each.name: each.stat().st_mtime_ns for each in folder.glob("*.json")}


def unreachable(error: Exception) -> OSError:
    """What a store's client raised, as an error of one line."""
    return OSError(f"the store of reports: {str(error).strip().partition(chr(10))[0][:300]}")
