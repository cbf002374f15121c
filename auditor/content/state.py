"""What is finished of an interrupted audit: one small JSON file for each shard, in a folder of the user's choice.

A shard's result counts again only if everything it followed from is as it was: tool, source, the file's stamp
and header, the stamps of the files its scales are in, depth, seed, digests, and what was to be read.
"""

import hashlib
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec

from auditor.content.plan import ShardPlan
from auditor.errors import UsageError
from auditor.probes import Functional, ShardValues
from auditor.sources import Source
from auditor.version import __version__

_RUN, _FUNCTIONAL = "audit.json", "functional.json"


class _Saved(msgspec.Struct):
    key: str
    values: ShardValues  # with the stamps that the files had when they were read


class _SavedFunctional(msgspec.Struct):
    key: str
    functional: tuple[Functional, ...]


class State:
    """The folder. `settings` are what a result depends on beside the shard itself."""

    def __init__(self, folder: Path, source: Source, settings: dict[str, Any]) -> None:
        self._folder = folder
        self._source = source
        self._settings = {"tool": __version__, "source": source.identity, **settings}

    def load(self, plan: ShardPlan) -> ShardValues | None:
        """A shard's finished result, if nothing has changed since; anything odd counts as not finished."""
        try:
            saved = msgspec.json.decode(self._path(plan).read_bytes(), type=_Saved)
        except (OSError, msgspec.DecodeError, UnicodeDecodeError):
            return None
        return saved.values if saved.key == self._key(plan, saved.values.stamps) == self._key(plan) else None

    def save(self, plan: ShardPlan, values: ShardValues) -> None:
        """Make a shard's result durable; raises OSError where the disk does not take it."""
        key = self._key(plan, values.stamps)
        if key is not None and values.unjudged is None:
            write_whole(self._path(plan), msgspec.json.encode(_Saved(key, values)))

    def load_functional(self, plans: Sequence[ShardPlan], device: str) -> tuple[Functional, ...] | None:
        """The spot check of an audit that had finished reading, if nothing has changed since."""
        try:
            saved = msgspec.json.decode((self._folder / _FUNCTIONAL).read_bytes(), type=_SavedFunctional)
        except (OSError, msgspec.DecodeError, UnicodeDecodeError):
            return None
        return saved.functional if saved.key == self._key_of_all(plans, device) is not None else None

    def save_functional(self, plans: Sequence[ShardPlan], device: str, found: tuple[Functional, ...]) -> None:
        """Make the spot check durable; raises OSError where the disk does not take it."""
        key = self._key_of_all(plans, device)
        if key is not None:
            write_whole(self._folder / _FUNCTIONAL, msgspec.json.encode(_SavedFunctional(key, found)))

    def _key_of_all(self, plans: Sequence[ShardPlan], device: str) -> str | None:
        keys = [self._key(plan) for plan in plans]
        return None if None in keys else hashlib.sha256(msgspec.json.encode([device, *keys])).hexdigest()

    def _path(self, plan: ShardPlan) -> Path:
        return self._folder / f"{hashlib.sha256(plan.file.encode()).hexdigest()[:24]}.json"

    def _key(self, plan: ShardPlan, known: dict[str, str | None] | None = None) -> str | None:
        """What a result follows from; None where nothing tells whether a file has changed since.

        Stamps are those `known` from the reading, else the files' present ones.
        """
        files = sorted({plan.file} | {part.scale.file for part in plan.parts if part.scale is not None})
        stamps = [[file, self._source.stamp(file) if known is None else known.get(file)] for file in files]
        if any(stamp is None for _, stamp in stamps):
            return None
        depends = {
            **self._settings,
            "plan": hashlib.sha256(msgspec.json.encode(plan)).hexdigest(),
            "stamps": stamps,
        }
        return hashlib.sha256(msgspec.json.encode(depends, order="sorted")).hexdigest()


def open_folder(path: str, source: Source) -> Path:
    """The state folder, made where it is not there; raises UsageError where it cannot serve."""
    folder = Path(path)
    if source.holds(folder):
        raise UsageError(f"--resume {path}: lies inside the checkpoint, which is never written to: name another folder")
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(f"--resume {path}: cannot be made: {error.strerror}") from error
    if not os.access(folder, os.W_OK | os.X_OK):
        raise UsageError(f"--resume {path}: cannot be written to: name another folder")
    for left in folder.glob("*.partial"):  # by an audit that was killed while it wrote
        left.unlink(missing_ok=True)
    return folder


def seed_of(folder: Path, wanted: int | None, fresh: int) -> int:
    """The seed of the audit that the folder belongs to: the one asked for, the one it began with, or a fresh one.

    Raises OSError where the disk does not take it.
    """
    seed = wanted
    if seed is None:
        try:
            seed = int(msgspec.json.decode((folder / _RUN).read_bytes(), type=dict[str, int])["seed"])
        except (OSError, msgspec.DecodeError, UnicodeDecodeError, KeyError):
            seed = fresh
        seed = seed if 0 <= seed < 1 << 63 else fresh
    write_whole(folder / _RUN, msgspec.json.encode({"seed": seed}))
    return seed


def write_whole(path: Path, data: bytes) -> None:
    """Write a file so that it is there whole, even after a power cut, or not at all."""
    partial = path.with_name(f"{path.name}.{os.getpid()}.partial")
    try:
        with partial.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        partial.replace(path)
    except OSError:
        partial.unlink(missing_ok=True)
        raise
