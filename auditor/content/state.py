"""What is finished of an interrupted audit, or of its parts: one small file for each shard, in a place of its own.

A shard's result counts again only if everything it followed from is as it was: tool, source, the file's stamp
and header, the stamps of the files its scales are in, depth, digests, and what was to be read. Stamps mean less on a
machine that did not take them. A digest over all that and the values finds what was edited; with AUDITOR_STATE_KEY it
is an HMAC, which only the key's holders can make. All is MessagePack, which is read sooner than JSON.
"""

import hashlib
import hmac
import os
from collections.abc import Sequence
from typing import Any, NamedTuple, TypeVar

import msgspec
from msgspec.structs import replace

from auditor.content.asked import answers
from auditor.content.place import Place, this_machine
from auditor.content.plan import STRIP_ROWS, ShardPlan
from auditor.content.probes import Functional
from auditor.content.values import ShardValues
from auditor.errors import UsageError
from auditor.sources import Source
from auditor.sources.entry import HERE
from auditor.version import __version__

KEY = "AUDITOR_STATE_KEY"

ENDING = "msgpack"  # of the names of files
_RUN, _FUNCTIONAL = f"audit.{ENDING}", f"functional.{ENDING}"
_VALUES = 2  # what is told of a tensor; more for each time that it is more
SMALL_BYTES = 1 << 20  # of a file beside the shards' results
# Of a result, for each tensor with its name, each range of its rows, and each of its strips.
_PART_BYTES, _RANGE_BYTES, _STRIP_BYTES = 16 << 10, 128, 16
_LARGEST_BYTES = 256 << 20
_T = TypeVar("_T")


class _Sealed(msgspec.Struct):
    """A value as it is written with what it followed from, and the seal over both."""

    key: str
    seal: str
    values: bytes


class _Result(msgspec.Struct):
    """A shard's values, and the machine on which its stamps mean all that they say."""

    machine: str
    values: ShardValues


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
        seal = hashlib.sha256() if self._secret is None else hmac.new(self._secret, digestmod=hashlib.sha256)
        seal.update(key.encode("utf-8", "surrogatepass") + b"\n")
        seal.update(values)
        return seal.hexdigest()

    def wrapped(self, key: str, values: object) -> bytes:
        """A file's bytes."""
        raw = msgspec.msgpack.encode(values)
        return msgspec.msgpack.encode(_Sealed(key, self.over(key, raw), raw))

    def opened(self, data: bytes | None, kind: type[_T]) -> tuple[str, _T] | None:
        """What a file followed from, and what it says; None where that is not what was written."""
        if data is None:
            return None
        try:
            sealed = msgspec.msgpack.decode(data, type=_Sealed)
            if not hmac.compare_digest(sealed.seal.encode(), self.over(sealed.key, sealed.values).encode()):
                return None
            return sealed.key, msgspec.msgpack.decode(sealed.values, type=kind)
        except (msgspec.DecodeError, UnicodeError, RecursionError):
            return None


class State:
    """The place. `settings` are what a result depends on beside the shard itself."""

    def __init__(self, place: Place, seal: Seal, source: Source, settings: dict[str, Any]) -> None:
        self._place = place
        self._seal = seal
        self._source = source
        self._settings = {"tool": __version__, "values": _VALUES, "source": source.identity, **settings}
        self._asked: dict[str, _Asked] = {}
        self._machine = hashlib.sha256(this_machine().encode()).hexdigest()[:16]

    def load(self, plan: ShardPlan) -> ShardValues | None:
        """A shard's finished result, if nothing has changed since; anything odd counts as not finished.

        Its stamps are those that this machine sees, as of a shard's units each may be another machine's.
        """
        saved = self._seal.opened(self._place.read(_name(plan), _most(plan)), _Result)
        if saved is None or not answers(plan, saved[1].values):
            return None
        key, result = saved
        values, present = result.values, self._stamps(plan)
        if result.machine == self._machine and any(values.stamps.get(file) != present[file] for file in present):
            return None
        same = key == self._key(plan, values.stamps) == self._key(plan, present)
        return replace(values, stamps=present) if same else None

    def save(self, plan: ShardPlan, values: ShardValues) -> bool:
        """Make a shard's result durable, unless nothing tells whether its file changes; raises OSError for no room."""
        key = self._key(plan, values.stamps)
        if key is None or values.unjudged is not None:
            return False
        self._place.write(_name(plan), self._seal.wrapped(key, _Result(self._machine, values)), durable=True)
        return True

    def load_functional(self, plans: Sequence[ShardPlan], device: str) -> tuple[Functional, ...] | None:
        """The spot check of an audit that had finished reading, if nothing has changed since."""
        saved = self._seal.opened(self._place.read(_FUNCTIONAL, SMALL_BYTES), tuple[Functional, ...])
        return saved[1] if saved is not None and saved[0] == self._key_of_all(plans, device) else None

    def save_functional(self, plans: Sequence[ShardPlan], device: str, found: tuple[Functional, ...]) -> None:
        """Make the spot check durable; raises OSError where the disk does not take it."""
        key = self._key_of_all(plans, device)
        if key is not None:
            self._place.write(_FUNCTIONAL, self._seal.wrapped(key, found), durable=True)

    def _key_of_all(self, plans: Sequence[ShardPlan], device: str) -> str | None:
        stamps = [self._stamps(plan) for plan in plans]
        keys = [self._key(plan, each) for plan, each in zip(plans, stamps, strict=True)]
        if None in keys:
            return None
        return hashlib.sha256(msgspec.json.encode([device, stamps, *keys], order="sorted")).hexdigest()

    def _stamps(self, plan: ShardPlan) -> dict[str, str | None]:
        """The present stamps of the files that a result follows from."""
        return {file: self._source.stamp(file) for file in self._asked_of(plan).files}

    def _key(self, plan: ShardPlan, stamps: dict[str, str | None]) -> str | None:
        """What a result follows from, wherever it was read; None where nothing tells whether a file has changed since.

        Of each stamp what means the same on every machine: size and time of a shared folder's file, an ETag.
        """
        asked = self._asked_of(plan)
        known = [(file, stamps.get(file)) for file in asked.files]
        if any(stamp is None for _, stamp in known):
            return None
        depends = {
            **self._settings,
            "plan": asked.plan,
            "stamps": [[file, str(stamp).partition(HERE)[0]] for file, stamp in known],
        }
        return hashlib.sha256(msgspec.json.encode(depends, order="sorted")).hexdigest()

    def _asked_of(self, plan: ShardPlan) -> "_Asked":
        name = _name(plan)
        found = self._asked.get(name)
        if found is None:
            files = {plan.file} | {part.scale.file for part in plan.parts if part.scale is not None}
            digest = hashlib.sha256(msgspec.msgpack.encode(plan)).hexdigest()
            found = self._asked[name] = _Asked(sorted(files), digest)
        return found


class _Asked(NamedTuple):
    """What a plan asks for: the files that its result follows from, in order, and a digest of the plan itself."""

    files: list[str]
    plan: str


def _name(plan: ShardPlan) -> str:
    named = plan.file if plan.stop - plan.begin == plan.size else f"{plan.file}\n{plan.begin}:{plan.stop}"
    return f"{hashlib.sha256(named.encode()).hexdigest()[:24]}.{ENDING}"


def _most(plan: ShardPlan) -> int:
    """The most bytes that a result of this plan can have."""
    ranges = sum(len(part.rows) for part in plan.parts)
    strips = sum(part.row_count // STRIP_ROWS + 1 for part in plan.parts)
    return min(
        SMALL_BYTES + _PART_BYTES * len(plan.parts) + _RANGE_BYTES * ranges + _STRIP_BYTES * strips, _LARGEST_BYTES
    )


def seed_of(place: Place, seal: Seal, source: Source, wanted: int | None, fresh: int) -> int:
    """The seed of the audit that the place belongs to: the one asked for, the one it began with, or a fresh one.

    Raises OSError where the disk does not take it.
    """
    key = f"seed {source.identity}"
    saved = seal.opened(place.read(_RUN, SMALL_BYTES), int)
    begun = saved[1] if saved is not None and saved[0] == key and 0 <= saved[1] < 1 << 63 else None
    seed = next(each for each in (wanted, begun, fresh) if each is not None)
    if seed != begun:
        place.write(_RUN, seal.wrapped(key, seed), durable=True)
    return seed
