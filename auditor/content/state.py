"""What is finished of an interrupted audit: one small JSON file for each shard, in a folder of the user's choice.

A shard's result counts again only if everything it followed from is as it was: tool, source, the file's stamp
and header, the stamps of the files its scales are in, depth, seed, digests, and what was to be read. A digest over
that and the values finds what was edited; with AUDITOR_STATE_KEY it is an HMAC, which only the key's holders can make.
"""

import hashlib
import hmac
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from auditor.content.plan import ShardPlan
from auditor.content.probes import Functional, ShardValues
from auditor.errors import UsageError
from auditor.private import PrivateFolder, doubt
from auditor.sources import Source
from auditor.text import shown
from auditor.version import __version__

KEY = "AUDITOR_STATE_KEY"

_RUN, _FUNCTIONAL = "audit.json", "functional.json"
_SMALL_BYTES = 1 << 20  # of a file beside the shards' results
_PART_BYTES, _RANGE_BYTES = 8 << 10, 128  # of a result, for each tensor with its name, and each range of its rows
_LARGEST_BYTES = 256 << 20
_T = TypeVar("_T")


class _Sealed(msgspec.Struct):
    """A value with what it followed from, and the seal over both."""

    key: str
    seal: str
    values: msgspec.Raw


class Seal:
    """What tells whether key and values are those that were written: a digest, or an HMAC where there is a secret."""

    def __init__(self) -> None:
        """Raises UsageError for a secret that is empty, as a pipeline gives it that has none."""
        secret = os.environ.get(KEY)
        if secret == "":
            raise UsageError(f"{KEY} is empty: set it to a secret, or unset it")
        self._secret = None if secret is None else secret.encode("utf-8", "surrogateescape")

    def over(self, key: str, values: bytes) -> str:
        """The seal over what values followed from and the values as they are written."""
        sealed = b"\n".join((key.encode("utf-8", "surrogatepass"), values))
        if self._secret is None:
            return hashlib.sha256(sealed).hexdigest()
        return hmac.new(self._secret, sealed, hashlib.sha256).hexdigest()

    def wrapped(self, key: str, values: object) -> bytes:
        """A file's bytes."""
        raw = msgspec.json.encode(values)
        return msgspec.json.encode(_Sealed(key, self.over(key, raw), msgspec.Raw(raw)))

    def opened(self, data: bytes | None, kind: type[_T]) -> tuple[str, _T] | None:
        """What a file followed from, and what it says; None where that is not what was written."""
        if data is None:
            return None
        try:
            sealed = msgspec.json.decode(data, type=_Sealed)
            raw = bytes(sealed.values)
            if not hmac.compare_digest(sealed.seal.encode(), self.over(sealed.key, raw).encode()):
                return None
            return sealed.key, msgspec.json.decode(raw, type=kind)
        except (msgspec.DecodeError, UnicodeError, RecursionError):
            return None


class State:
    """The folder. `settings` are what a result depends on beside the shard itself."""

    def __init__(self, folder: PrivateFolder, seal: Seal, source: Source, settings: dict[str, Any]) -> None:
        self._folder = folder
        self._seal = seal
        self._source = source
        self._settings = {"tool": __version__, "source": source.identity, **settings}

    def load(self, plan: ShardPlan) -> ShardValues | None:
        """A shard's finished result, if nothing has changed since; anything odd counts as not finished."""
        saved = self._seal.opened(self._folder.read(_name(plan), _most(plan)), ShardValues)
        if saved is None or not _answers(plan, saved[1]):
            return None
        key, values = saved
        return values if key == self._key(plan, values.stamps) == self._key(plan) else None

    def save(self, plan: ShardPlan, values: ShardValues) -> None:
        """Make a shard's result durable; raises OSError where the disk does not take it."""
        key = self._key(plan, values.stamps)
        if key is not None and values.unjudged is None:
            self._folder.write(_name(plan), self._seal.wrapped(key, values), durable=True)

    def load_functional(self, plans: Sequence[ShardPlan], device: str) -> tuple[Functional, ...] | None:
        """The spot check of an audit that had finished reading, if nothing has changed since."""
        saved = self._seal.opened(self._folder.read(_FUNCTIONAL, _SMALL_BYTES), tuple[Functional, ...])
        return saved[1] if saved is not None and saved[0] == self._key_of_all(plans, device) else None

    def save_functional(self, plans: Sequence[ShardPlan], device: str, found: tuple[Functional, ...]) -> None:
        """Make the spot check durable; raises OSError where the disk does not take it."""
        key = self._key_of_all(plans, device)
        if key is not None:
            self._folder.write(_FUNCTIONAL, self._seal.wrapped(key, found), durable=True)

    def _key_of_all(self, plans: Sequence[ShardPlan], device: str) -> str | None:
        keys = [self._key(plan) for plan in plans]
        return None if None in keys else hashlib.sha256(msgspec.json.encode([device, *keys])).hexdigest()

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


def _name(plan: ShardPlan) -> str:
    return f"{hashlib.sha256(plan.file.encode()).hexdigest()[:24]}.json"


def _most(plan: ShardPlan) -> int:
    """The most bytes that a result of this plan can have."""
    ranges = sum(len(part.rows) for part in plan.parts)
    return min(_SMALL_BYTES + _PART_BYTES * len(plan.parts) + _RANGE_BYTES * ranges, _LARGEST_BYTES)


def _answers(plan: ShardPlan, values: ShardValues) -> bool:
    """Whether values are of the shard and the tensors that are to be read."""
    wanted = {(part.name, part.dtype, part.shape) for part in plan.parts}
    return (values.file, values.size) == (plan.file, plan.size) and all(
        each.file == plan.file and (each.name, each.dtype, each.shape) in wanted for each in values.tensors
    )


def open_folder(path: str, source: Source, *, shared: bool) -> PrivateFolder:
    """The state folder, made where it is not there. `shared`: others may write to it, and that is meant.

    Raises UsageError where it cannot serve, or where others may write to it or put another in its place and nobody
    said that this is meant.
    """
    if source.holds(Path(path)):
        raise UsageError(
            f"--resume {shown(path)}: lies inside the checkpoint, which is never written to: name another folder"
        )
    try:
        folder = PrivateFolder(path, shared=shared)
        reason = None if shared else doubt(Path(path))
    except OSError as error:
        raise UsageError(f"--resume {shown(path)}: cannot be made: {error.strerror}") from error
    if reason is not None:
        raise UsageError(f"--resume {shown(path)}: {reason}; give --resume-shared if that is meant")
    if not os.access(path, os.W_OK | os.X_OK) or not Path(path).is_dir():
        raise UsageError(f"--resume {shown(path)}: cannot be written to: name another folder")
    folder.tidy()
    return folder


def seed_of(folder: PrivateFolder, seal: Seal, source: Source, wanted: int | None, fresh: int) -> int:
    """The seed of the audit that the folder belongs to: the one asked for, the one it began with, or a fresh one.

    Raises OSError where the disk does not take it.
    """
    seed, key = wanted, f"seed {source.identity}"
    if seed is None:
        saved = seal.opened(folder.read(_RUN, _SMALL_BYTES), int)
        seed = saved[1] if saved is not None and saved[0] == key and 0 <= saved[1] < 1 << 63 else fresh
    folder.write(_RUN, seal.wrapped(key, seed), durable=True)
    return seed
