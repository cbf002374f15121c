"""Reads what a depth asks for, on a device, by as many threads as wanted, and hands over the probes."""

import secrets
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from itertools import cycle
from typing import TYPE_CHECKING, Literal

from auditor.content import Reading, Standing, check_numba
from auditor.content.away import Opening
from auditor.content.cuda import LARGEST_BLOCK
from auditor.content.formats import Blocks, Formats
from auditor.content.gpu import chosen
from auditor.content.nodes import Shares, cluster_engine
from auditor.content.parts import keep_terms, refuse_other_terms, share, terms_of
from auditor.content.place import Place, open_place
from auditor.content.plan import STRIP_BYTES, ShardPlan, whole_shards
from auditor.content.probes import Content, Functional, Probes
from auditor.content.sample import sampled_shards
from auditor.content.state import Seal, State, seed_of
from auditor.content.units import largest_first, merged, units_of
from auditor.content.values import ShardValues
from auditor.engine import Engine
from auditor.engine.local import Local, Meter, cores
from auditor.errors import AuditorError, Unread, UsageError, code_of
from auditor.families.expectations import Expectations
from auditor.families.naming import Naming
from auditor.inventory.facts import Inventory
from auditor.sources import Source
from auditor.text import listed, quoted, shown

if TYPE_CHECKING:
    from auditor.content.device import Device


def read_content(
    source: Source,
    inventory: Inventory,
    blocks: Blocks | None,
    reading: Reading,
    *,
    mtp_layers: Iterable[int] = (),
    expectations: Expectations | None = None,
    opening: Opening | None = None,
) -> Content:
    """Read what the depth asks for, each tensor by the format of its expected row.

    `blocks` are those of FP8 weights that no row knows; `opening` is how other machines open the source, where an
    engine has any.
    What cannot be read is said in `unread`, and so is an interruption; both leave the rest as it is.
    Raises UsageError for a device, a state folder or a compiler that cannot serve.
    """
    formats = Formats(blocks, expectations)
    shapes = {each.shape for each in formats.every_blocks}
    # A cluster's nodes have devices of their own; what is computed here is then left to the processor.
    make, device_name = _devices("cpu" if opening is not None else reading.device, shapes, reading.jobs or cores())
    fresh = secrets.randbits(32)
    seed = fresh if reading.seed is None else reading.seed
    place = unsaved = None
    if reading.resume is not None:
        seal = Seal()
        place = open_place(reading.resume, source, shared=reading.resume_shared)
        try:
            seed = _begun(place, reading.resume, seal, source, reading, seed)
        except OSError as error:
            told = f"--resume {shown(reading.resume)}: cannot be written to: {error.strerror}"
            unsaved = Unread(told, "not_saved")  # what it holds is taken up nevertheless
    if reading.depth == "full":
        plans = whole_shards(inventory, formats)
        if reading.part is not None:
            plans = share(plans, *reading.part)
    else:
        # The spot check reads its strips again, and they count: an eighth of the budget is theirs.
        budget = reading.sample_bytes - reading.sample_bytes // 8
        plans = sampled_shards(inventory, formats, seed=seed, budget=budget, mtp_layers=mtp_layers)
    settings: dict[str, object] = {"depth": reading.depth, "digests": reading.digests, "blocks": blocks}
    if reading.depth == "sample":  # of which the seed chose what is read
        settings["seed"] = seed
    state = State(place, seal, source, settings) if place is not None else None
    gpus = opening is not None and reading.device != "cpu" and _fits(reading.device, shapes)
    work = _Work(source, reading, make, plans, state, opening, gpus=gpus, unsaved=unsaved)
    spot = None
    if reading.part is None and any(part.scale is not None for plan in plans for part in plan.parts):
        spot = _Spot(
            source=source,
            naming=formats.naming,
            reading=reading,
            plans=plans,
            state=state,
            seed=seed,
            device_name=device_name,
        )
    # Beside the reading, where that leaves the caller's thread nothing to do; a network and a GPU have one user.
    beside = spot.check if spot is not None and device_name == "cpu" and not source.remote else None
    unread = [*work.run(beside), *too_wide(plans)]
    if reading.depth == "sample" and not plans and inventory.payload_bytes:
        unread.append(Unread(f"nothing fits into {reading.sample_bytes:,} bytes (--sample-bytes)", "limit"))
    whole = len(work.done) == len(plans)
    functional: tuple[Functional, ...] = ()
    if spot is not None and whole:
        try:
            spot.check()
        except KeyboardInterrupt:
            unread.append(Unread("cancelled before the functional spot check had ended", "cancelled"))
        functional = spot.found or ()
    shards = tuple(work.done[plan.file] for plan in plans if plan.file in work.done)
    return Content(
        probes=Probes(
            depth=reading.depth,
            seed=seed,
            device=work.shares.devices or device_name,
            shards=shards,
            functional=functional,
            powers_of_two=any(each.powers_of_two for each in formats.every_blocks),
            naming=formats.naming,
            unjudged=formats.reasons,
            partial=not whole or any(shard.unjudged is not None for shard in shards),
        ),
        unread=tuple(unread),
        resumed=None if reading.resume is None else work.resumed,
        nodes=work.shares.nodes,
    )


def _begun(place: Place, name: str, seal: Seal, source: Source, reading: Reading, fresh: int) -> int:
    """The seed of a reading whose place it is; what was read there on other terms is refused."""
    terms = terms_of(source, reading.depth, digests=reading.digests)
    refuse_other_terms(place, name, seal, terms)
    if reading.part is None:
        return seed_of(place, seal, source, reading.seed, fresh)
    keep_terms(place, seal, terms)
    return fresh


@dataclass(kw_only=True)
class _Spot:
    """The functional spot check of one audit. `found` is None until it has been made."""

    source: Source
    naming: Naming
    reading: Reading
    plans: tuple[ShardPlan, ...]
    state: State | None
    seed: int
    device_name: str
    found: tuple[Functional, ...] | None = None

    def check(self) -> None:
        """Make it, or take it up again, once."""
        if self.found is not None:
            return
        plans, state, name = self.plans, self.state, self.device_name
        found = state.load_functional(plans, name) if state is not None else None
        if found is None:
            from auditor.content.spot import FEW, MOST, spot_checks

            # A figure, and no finding: where the CPU reads everything, a few weights are enough.
            few = name == "cpu" and self.reading.depth == "full"
            where, most = ("cpu" if name == "cpu" else "cuda"), (FEW if few else MOST)
            room = self.reading.sample_bytes // 8 if self.reading.depth == "sample" else None
            found = spot_checks(self.source, plans, self.naming, seed=self.seed, device=where, most=most, room=room)
            if state is not None and found:
                with suppress(OSError):  # it is quickly done again
                    state.save_functional(plans, name, found)
        self.found = found


class _Work:
    """The shards of one audit: those that a state folder has finished, and those to be read now."""

    def __init__(
        self,
        source: Source,
        reading: Reading,
        make: "Callable[[], Device]",
        plans: tuple[ShardPlan, ...],
        state: State | None,
        opening: Opening | None = None,
        *,
        gpus: bool = False,
        unsaved: Unread | None = None,
    ) -> None:
        self._opening = opening
        self._gpus = gpus
        self.shares = Shares()
        self.done: dict[str, ShardValues] = {}
        self.resumed = 0
        self._source = source
        self._reading = reading
        self._make = make
        self._units = {plan.file: units_of(plan, digests=reading.digests) for plan in plans}
        self._found: dict[str, dict[int, ShardValues]] = {plan.file: {} for plan in plans}  # by where a unit begins
        self._state = state
        self._unread: list[Unread] = []
        self._unsaved = unsaved
        self._refused: set[str] = set()
        self._devices: list[Device] = []
        self._left = 0  # units that are to be read

    def run(self, beside: Callable[[], None] | None = None) -> tuple[Unread, ...]:
        """Read, and do what is to be done beside it; returns what could not be read."""
        every = [unit for units in self._units.values() for unit in units]
        waiting = [unit for unit in every if not self._is_kept(unit)]
        self.resumed = len(self.done)
        total = sum(unit.bytes for unit in every) if waiting else 0
        before = total - sum(unit.bytes for unit in waiting)
        self._left = len(waiting)
        progress, standing = self._reading.progress, self._reading.standing
        cancelled, broken = False, None

        def watch(read: int) -> None:
            done = min(before + read, total)  # digests read headers too
            if progress is not None:
                progress(done, total)
            if standing is not None:
                by = (engine.workers, engine.nodes, engine.retries)
                standing(Standing(done, total, len(every), self._left, *by))

        try:
            if waiting:
                self._prepare()
                with self._engine(watch) as engine:
                    engine.run(largest_first(waiting), beside)
                    broken = engine.broken
            elif beside is not None:
                beside()
        except KeyboardInterrupt:
            cancelled = True
            told = f"cancelled after {len(self.done)} of {len(self._units)} shards' content"
            self._unread.append(Unread(told, "cancelled"))
        finally:
            for device in self._devices:
                device.close()
        self._unread.extend(self._unjudged())
        unanswered = len(self._units) - len(self.done) - len(self._refused)
        if broken is not None and unanswered and not cancelled:
            told = f"the tensor data of {unanswered:,} shards was not read: {type(broken).__name__}: {broken}"
            self._unread.append(Unread(told, code_of(broken)))
        if self._unsaved is not None:
            self._unread.append(self._unsaved)
        return tuple(self._unread)

    def _prepare(self) -> None:
        """Have the kernels; where all was read before nobody waits for numba."""
        check_numba(self._reading.depth)
        from auditor.content.kernels.needed import prepare_audit

        prepare_audit(self._reading.preparing)

    def _unjudged(self) -> Iterator[Unread]:
        """Shards whose weights lack their scales, unless the scales' shard has a line: one cause, one line."""
        named = {line.partition(": ")[0] for line in self._unread}
        for values in self.done.values():
            reason = values.unjudged
            if reason is not None and reason.partition(": ")[0] not in named:
                told = f"{values.file}: weights whose scales are in another shard were not judged: {reason}"
                yield Unread(told, values.unjudged_code or "unreadable")

    @contextmanager
    def _engine(self, watch: Callable[[int], None]) -> Iterator[Engine[ShardPlan]]:
        """Where units are read: the threads of this process, or the nodes of a cluster."""
        if self._opening is None:
            yield Local[ShardPlan, ShardValues](
                self._reading.jobs or cores(), self._worker, finished=self._finished, failed=self._failed, watch=watch
            )
            return
        with cluster_engine(
            self._reading,
            self._source,
            self._opening,
            self.shares,
            gpus=self._gpus,
            finished=self._finished,
            failed=self._failed,
            watch=watch,
        ) as engine:
            yield engine

    def _worker(self, meter: Meter) -> Callable[[ShardPlan], ShardValues]:
        from auditor.content.shard import ShardReader

        device = self._make()
        self._devices.append(device)
        reader = ShardReader(self._source, device, digests=self._reading.digests, tick=meter.tick)
        return reader.read

    def _is_kept(self, unit: ShardPlan) -> bool:
        """Whether a unit was read before, which is then known."""
        values = None if self._state is None else self._state.load(unit)
        if values is not None:
            self._add(unit, values)
        return values is not None

    def _finished(self, unit: ShardPlan, values: ShardValues) -> None:
        self._left -= 1
        if self._state is not None:
            try:
                kept = self._state.save(unit, values)
                if not kept and self._reading.part is not None and values.unjudged is None:
                    told = f"{unit.file}: its result cannot be kept: nothing tells whether the file changes"
                    self._unread.append(Unread(told, "not_saved"))
            except OSError as error:
                folder = shown(self._reading.resume or "")
                told = f"--resume {folder}: finished work could not be saved: {error.strerror}"
                self._unsaved = self._unsaved or Unread(told, "not_saved")
        self._add(unit, values)

    def _add(self, unit: ShardPlan, values: ShardValues) -> None:
        """Note a unit's values, and the shard's where all of its units are read."""
        units, found = self._units[unit.file], self._found[unit.file]
        found[unit.begin] = values
        if len(found) == len(units) and unit.file not in self._refused:
            try:
                self.done[unit.file] = merged(units, [found[each.begin] for each in units])
                found.clear()
            except Exception as error:  # an edge: what a place held before may be anything
                self._refuse(unit, error)

    def _failed(self, unit: ShardPlan, error: Exception) -> None:
        self._left -= 1
        self._refuse(unit, error)

    def _refuse(self, unit: ShardPlan, error: Exception) -> None:
        if unit.file in self._refused:
            return
        self._refused.add(unit.file)
        # The edge of the threads: one shard's trouble is no other's.
        told = f"{unit.file}: could not be read: {type(error).__name__}: {error}"
        self._unread.append(Unread(str(error) if isinstance(error, AuditorError) else told, code_of(error)))


def too_wide(plans: Sequence[ShardPlan]) -> Iterator[Unread]:
    """Weights that are not judged although they have scales: a row of blocks, or of scales, takes too much memory."""
    for plan in plans:
        wide = [part.name for part in plan.parts if part.too_wide]
        if wide:
            names = listed(map(quoted, wide), most=1)
            yield Unread(
                f"{plan.file}: a row of weight blocks, or all block scales of one, take more than "
                f"{STRIP_BYTES:,} bytes: the blocks of {names} were not judged",
                "limit",
            )


def _devices(
    wanted: Literal["auto", "cpu", "cuda"], blocks: Collection[tuple[int, int]], threads: int
) -> "tuple[Callable[[], Device], str]":
    """What makes the device of each of so many threads, and the name that the report shows; `blocks` are their shapes.

    The GPU reduces weight blocks: where there are none, or larger ones than it takes, `auto` is the CPU.
    """
    gpus = chosen(wanted) if _fits(wanted, blocks) else None
    if gpus is None:
        return lambda: _cpu(threads), "cpu"
    from auditor.content.cuda.device import CudaDevice

    turns = cycle(range(len(gpus.names)))
    return lambda: CudaDevice(next(turns)), gpus.name


def _cpu(threads: int) -> "Device":
    from auditor.content.cpu import CpuDevice, slab_bytes

    return CpuDevice(slab_bytes(threads))


def _fits(wanted: Literal["auto", "cpu", "cuda"], blocks: Collection[tuple[int, int]]) -> bool:
    """Whether a GPU is of use to these blocks, or asked for. Raises UsageError where it is and can be of none."""
    largest = max(blocks, key=max, default=None)
    if wanted == "cuda" and largest is not None and max(largest) > LARGEST_BLOCK:
        raise UsageError(f"--device cuda: weight blocks of {largest[0]} × {largest[1]} need the CPU")
    return wanted == "cuda" or (largest is not None and max(largest) <= LARGEST_BLOCK)
