"""Compares the values of two checkpoints on this machine's threads, and says what every pair has shown."""

import secrets
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TypeVar, cast

import xxhash
from msgspec import Struct

from auditor.content.cpu import slab_bytes
from auditor.content.kernels.needed import prepare_comparison
from auditor.content.place import open_place
from auditor.content.state import Seal, seed_of
from auditor.conversion import Comparing
from auditor.conversion.facts import Compared, PairValues, Stored, TaskValues, Unpaired
from auditor.conversion.measure import Comparer
from auditor.conversion.outcome import Outcome
from auditor.conversion.pairing import Pairing, alike, by_digests, paired
from auditor.conversion.plan import Task, ranges, sampled, tasks_of
from auditor.conversion.renames import Names, read_renames
from auditor.conversion.state import State
from auditor.conversion.streams import Stream
from auditor.conversion.values import told
from auditor.conversion.weights import Side
from auditor.engine.local import Local, Meter, cores
from auditor.errors import AuditorError, Unread, code_of
from auditor.inventory.facts import Inventory
from auditor.sources import Source
from auditor.text import listed, named, plural, shown


@dataclass(frozen=True, kw_only=True)
class Opened:
    """One side, open: what it stores, and where that is read."""

    label: str
    source: Source
    inventory: Inventory
    side: Side

    @property
    def unread(self) -> Iterator[Unread]:
        """What its headers do not tell."""
        for reason in self.inventory.reasons:
            yield Unread(f"{self.label}: {reason}", reason.code)
        damaged = [each.path for each in self.inventory.parts if each.state == "damaged"]
        if damaged:
            yield Unread(f"{self.label}: headers are damaged: {listed(map(shown, damaged))}", "unreadable")
        index = self.inventory.index
        lost = [] if index is None or self.label != "OLD" else index.weight_map.keys() - self.inventory.tensors.keys()
        if lost:  # what NEW lacks is left out
            told = (
                f"the index places {plural(len(lost), 'tensor')} that no shard has: {listed(map(named, sorted(lost)))}"
            )
            yield Unread(f"{self.label}: {told}", "unreadable")
        if self.side.unreadable:
            names = listed(map(named, self.side.unreadable), most=1)
            yield Unread(f"{self.label}: bytes are missing or are not what the header says: {names}", "unreadable")


_RUN = 4 << 20  # bytes that are hashed at once


class _Unknown(Struct, frozen=True):
    """Weights of one side's file that may be another one's of the other side: their digests are wanted."""

    side: int
    file: str
    weights: tuple[tuple[str, Stored], ...]

    @property
    def bytes(self) -> int:
        """Bytes to read, without scales."""
        return sum(each.bytes for _, each in self.weights)


_Task = TypeVar("_Task", Task, _Unknown)
_Result = TypeVar("_Result")
_Digests = dict[str, tuple[str, ...]]  # of codes and scales, by the name that a weight would be paired by


class _Both(Struct, frozen=True):
    """Two sources in the place of one, as far as a seed is kept for it."""

    identity: str


def compare_values(old: Opened, new: Opened, how: Comparing) -> Compared:
    """Pair, read and compare. What cannot be read is said in `unread`, and so is an interruption.

    Raises UsageError for a map or a state folder that cannot serve.
    """
    names = None if how.map is None else Names(read_renames(how.map), how.map)
    pairing = paired(old.side, new.side, names)
    work = _Work((old, new), how)
    seed, state = _begin((old, new), how, work.unread)
    wanted = pairing.pairs if how.sample_bytes is None else sampled(pairing.pairs, seed=seed, budget=how.sample_bytes)
    tasks = tasks_of(wanted)
    unknown = _unknown(pairing)
    if unknown and how.sample_bytes is not None:
        count = sum(len(each.weights) for each in unknown if each.side == 0)
        reason = f"{plural(count, 'tensor')} of OLD may have other names in NEW, which only reading all of them tells"
        work.unread.append(Unread(reason, "limit"))
        unknown = []
    if pairing.pairs and not wanted:
        work.unread.append(Unread(f"nothing fits into {how.sample_bytes:,} bytes (--sample-bytes)", "limit"))
    work.total = sum(each.bytes for each in tasks) + sum(each.bytes for each in unknown)
    digests = work.digests(unknown)
    same, left_old, left_new = by_digests(pairing, *digests)
    found = work.compare(tasks, state)
    found += [told(pair, Outcome("same_bytes"), read=pair.bytes) for pair in same]
    every = (*pairing.pairs, *same)
    return Compared(
        pairs=tuple(found),
        left_out=tuple(_unpaired(left_old)),
        added=tuple(_unpaired(left_new)),
        unread=(*old.unread, *new.unread, *work.unread),
        seed=seed if how.sample_bytes is not None else None,
        bytes_read=sum(each.bytes_read for each in found),
        bytes_total=sum(_size(each) for pair in every for each in (pair.old, pair.new)),
        resumed=None if how.resume is None else work.resumed,
    )


def _begin(sides: tuple[Opened, Opened], how: Comparing, unread: list[Unread]) -> tuple[int, State | None]:
    """The seed, and the folder for what is finished, if one is wanted."""
    fresh = secrets.randbits(32)
    seed = fresh if how.seed is None else how.seed
    if how.resume is None:
        return seed, None
    sources = (sides[0].source, sides[1].source)
    seal = Seal()
    for source in sources:  # it lies inside neither
        place = open_place(how.resume, source, shared=how.resume_shared)
    both = cast(Source, _Both("\n".join(each.identity for each in sources)))
    try:
        seed = seed_of(place, seal, both, how.seed, fresh)
    except OSError as error:
        unread.append(Unread(f"--resume {shown(how.resume)}: cannot be written to: {error.strerror}", "not_saved"))
        return seed, None
    # A result of everything is one whatever was drawn.
    return seed, State(place, seal, sources, {"seed": None if how.sample_bytes is None else seed})


def _unknown(pairing: Pairing) -> list[_Unknown]:
    """What is left on both sides and may be the same, by side and file."""
    found = []
    for side, weights in enumerate(alike(pairing)):
        files: dict[str, list[tuple[str, Stored]]] = {}
        for key, stored in sorted(weights.items(), key=lambda each: (each[1].file, each[1].begin)):
            files.setdefault(stored.file, []).append((key, stored))
        found += [_Unknown(side, file, tuple(held)) for file, held in files.items()]
    return found


def _unpaired(weights: dict[str, Stored]) -> Iterator[Unpaired]:
    for each in weights.values():
        yield Unpaired(each.name, each.format, each.shape, each.companions)


def _size(stored: Stored) -> int:
    return stored.bytes + (0 if stored.scale is None else stored.scale.bytes)


class _Work:
    """The reading of one comparison: by all threads, one file of the leading side at a time each."""

    def __init__(self, sides: tuple[Opened, Opened], how: Comparing) -> None:
        self.unread: list[Unread] = []
        self.resumed = self.total = 0
        self._sides, self._how = sides, how
        self._shards = tuple({shard.path: shard for shard in each.inventory.parts} for each in sides)
        self._jobs = how.jobs or cores()
        self._before = 0
        self._streams: list[Stream] = []
        self._cancelled = False

    def digests(self, unknown: Sequence[_Unknown]) -> tuple[_Digests, _Digests]:
        """The digests of weights that no name pairs, of either side."""
        found: tuple[_Digests, _Digests] = ({}, {})

        def worker(meter: Meter) -> Callable[[_Unknown], _Digests]:
            streams = self._open()
            return lambda task: self._digested(task, streams[task.side], meter)

        engine = Local[_Unknown, _Digests](
            self._jobs,
            worker,
            finished=lambda task, result: found[task.side].update(result),
            failed=lambda task, error: self._failed(self._sides[task.side].label, task.file, error),
            watch=self._watch,
        )
        self._run(engine, unknown, "digests")
        return found

    def compare(self, tasks: Sequence[Task], state: State | None) -> list[PairValues]:
        """What every pair has shown, in the order of the files that lead."""
        done: dict[str, TaskValues] = {}
        for task in tasks:
            known = None if state is None else state.load(task)
            if known is not None:
                done[task.file] = known
                self._before += task.bytes
        self.resumed = len(done)

        def worker(meter: Meter) -> Callable[[Task], TaskValues]:
            streams = self._open()
            comparer = Comparer(*streams, slab_bytes(self._jobs) // 2, meter.tick)
            return lambda task: _compared(task, streams, comparer)

        def finished(task: Task, values: TaskValues) -> None:
            done[task.file] = values
            if state is not None:
                try:
                    state.save(task, values)
                except OSError as error:
                    folder = shown(self._how.resume or "")
                    reason = f"--resume {folder}: finished work could not be saved: {error.strerror}"
                    if reason not in self.unread:
                        self.unread.append(Unread(reason, "not_saved"))

        engine = Local[Task, TaskValues](
            self._jobs,
            worker,
            finished=finished,
            failed=lambda task, error: self._failed("", task.file, error),
            watch=self._watch,
        )
        self._run(engine, [task for task in tasks if task.file not in done], "values")
        return [pair for task in tasks if task.file in done for pair in done[task.file].pairs]

    def _run(self, engine: Local[_Task, _Result], tasks: Sequence[_Task], what: str) -> None:
        if self._cancelled or not tasks:
            return
        try:
            prepare_comparison(self._how.preparing)
            engine.run(tasks)
        except KeyboardInterrupt:
            self._cancelled = True
            self.unread.append(Unread(f"cancelled before all {what} were read", "cancelled"))
        finally:
            for stream in self._streams:
                stream.close()
            self._streams.clear()
        self._before += sum(each.bytes for each in tasks)
        if engine.broken is not None and not self._cancelled:
            reason = f"{type(engine.broken).__name__}: {engine.broken}"
            self.unread.append(Unread(f"not all tensor data was read: {reason}", code_of(engine.broken)))

    def _watch(self, done: int) -> None:
        if self._how.progress is not None:
            self._how.progress(min(self.total, self._before + done), self.total)

    def _open(self) -> tuple[Stream, Stream]:
        """A thread's own way to read both sides."""
        size = slab_bytes(self._jobs) // 2
        old, new = (Stream(each.source, held, size) for each, held in zip(self._sides, self._shards, strict=True))
        self._streams += [old, new]
        return old, new

    @staticmethod
    def _digested(task: _Unknown, stream: Stream, meter: Meter) -> _Digests:
        stream.begin((each.file, each.begin, each.end) for _, each in task.weights)
        found: _Digests = {}
        for key, stored in task.weights:
            hasher = xxhash.xxh3_128()
            for begin in range(stored.begin, stored.end, _RUN):
                run = stream.run(stored.file, begin, min(stored.end, begin + _RUN))
                hasher.update(run.data)
                meter.tick(run.size)
            scale = b"" if stored.scale is None else stream.bytes_of(stored.scale)
            kind = f"{stored.dtype} {stored.shape} {stored.scale and (stored.scale.dtype, stored.scale.shape)}"
            found[key] = (kind, hasher.hexdigest(), xxhash.xxh3_128_hexdigest(scale))
        stream.end()
        return found

    def _failed(self, label: str, file: str, error: Exception) -> None:
        # The edge of the threads: one file's trouble is no other's.
        reason = str(error) if isinstance(error, AuditorError) else f"{file}: {type(error).__name__}: {error}"
        self.unread.append(Unread(f"{label}: {reason}" if label else f"beside {file}: {reason}", code_of(error)))


def _compared(task: Task, streams: tuple[Stream, Stream], comparer: Comparer) -> TaskValues:
    for side, stream in enumerate(streams):
        stream.begin(ranges(task.pairs, side))
    pairs = tuple(map(comparer.compare, task.pairs))
    for stream in streams:
        stream.end()
    return TaskValues(task.file, pairs, streams[0].stamps, streams[1].stamps)
