"""What follows from comparing every pair: relations by kind, the worst tensors first, and the verdict. Pure."""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from math import isfinite, sqrt

import numpy as np
from msgspec.structs import replace

from auditor.conversion.dropped import Declared, excuse
from auditor.conversion.facts import Compared, PairValues, Unpaired
from auditor.patterns import expert_of, kind_of, patterns
from auditor.text import named, plural, share
from auditor_schemas.conversion import (
    ComparedKind,
    ComparedTensor,
    Conversion,
    ConversionValues,
    ElementPlace,
    Relation,
    UnpairedTensors,
)

EXIT_CODES: dict[Conversion, int] = {"faithful": 0, "lossy": 0, "unfaithful": 1, "undecided": 3}
_LISTED = 10_000  # tensors one by one
_KNOWN_AGAIN = 4000  # tensors that differ and are looked for among the other side's
_ORDER: tuple[Relation, ...] = ("different", "not_compared", "rounded", "requantised", "same_values", "same_bytes")
# Of one tensor, and of several.
_SAID: dict[Relation, tuple[str, str]] = {
    "different": ("differs", "differ"),
    "not_compared": ("cannot be compared", "cannot be compared"),
    "rounded": ("is rounded within the format", "are rounded within the format"),
    "requantised": ("follows by a formula", "follow by a formula"),
    "same_values": ("has the same values", "have the same values"),
    "same_bytes": ("has the same bytes", "have the same bytes"),
}
_APART = 2.0**-8  # of the sum of squares, which rounding to codes stays below


def judged(compared: Compared, old: Declared, new: Declared) -> ConversionValues:
    """The verdict, with everything that it follows from."""
    origins = _origins(compared.pairs)
    pairs = [(each, each.fault or _fault(each, origins)) for each in _by_usual_formulas(compared.pairs)]
    kinds = tuple(_kinds(pairs))
    left_out = tuple(_unpaired(compared.left_out, lambda name: excuse(name, old, new)))
    added = tuple(_unpaired(compared.added, lambda _: ""))
    odd = [(each, fault) for each, fault in pairs if each.relation not in ("same_bytes", "same_values")]
    odd.sort(key=lambda each: _badness(each[0]))
    not_compared = tuple(
        f"{each.fault} of {plural(each.count, 'tensor')}" for each in kinds if each.relation == "not_compared"
    )
    verdict = _verdict(compared, kinds, left_out)
    return ConversionValues(
        verdict=verdict,
        conclusion=_conclusion(verdict, compared, kinds, left_out),
        conversions=tuple(_conversions(kinds)),
        kinds=kinds,
        tensors=tuple(_tensor(each, fault) for each, fault in odd[:_LISTED]),
        more=max(0, len(odd) - _LISTED),
        left_out=left_out,
        added=added,
        not_compared=not_compared,
        unread=tuple(map(str, compared.unread)),
        unread_codes=tuple(each.code for each in compared.unread),
        seed=compared.seed,
        bytes_read=compared.bytes_read,
        bytes_total=compared.bytes_total,
        resumed_files=compared.resumed,
    )


def _verdict(compared: Compared, kinds: Sequence[ComparedKind], left_out: Sequence[UnpairedTensors]) -> Conversion:
    """What was not read outranks a difference, as in audits; what cannot be compared does not."""
    relations = {each.relation for each in kinds}
    if compared.unread:
        return "undecided"
    if "different" in relations or any(not each.excused for each in left_out):
        return "unfaithful"
    if "not_compared" in relations or not relations:
        return "undecided"
    return "lossy" if "rounded" in relations else "faithful"


# --- words ---


def _conclusion(
    verdict: Conversion, compared: Compared, kinds: Sequence[ComparedKind], left_out: Sequence[UnpairedTensors]
) -> str:
    counts = {relation: sum(each.count for each in kinds if each.relation == relation) for relation in _ORDER}
    parts = [f"{plural(count, 'tensor')} {_SAID[relation][count > 1]}" for relation, count in counts.items() if count]
    lost = sum(each.count for each in left_out if not each.excused)
    if lost:
        are = "is" if lost == 1 else "are"
        parts.insert(1 if counts["different"] else 0, f"{plural(lost, 'tensor')} of OLD {are} left out")
    of = "" if compared.seed is None else f" (a sample, {share(compared.bytes_read, compared.bytes_total)} of bytes)"
    heads = {
        "faithful": "NEW is OLD, converted faithfully",
        "lossy": "NEW is OLD within what its format rounds",
        "unfaithful": "NEW is not what a conversion of OLD gives",
        "undecided": "it was not decided whether NEW is OLD converted",
    }
    return f"{heads[verdict]}{of}: {', '.join(parts) or 'no tensors belong together'}"


def _conversions(kinds: Iterable[ComparedKind]) -> Iterator[str]:
    """What was done, most tensors first, each once."""
    found: dict[str, int] = {}
    for kind in kinds:
        if kind.relation in ("same_values", "requantised", "rounded"):
            way = kind.new_format if kind.old_format == kind.new_format else f"{kind.old_format} → {kind.new_format}"
            formula = kind.formula or ("by no known formula" if kind.relation == "rounded" else "")
            text = f"{way}: {formula}" if formula else way
            found[text] = found.get(text, 0) + kind.count
    yield from sorted(found, key=lambda text: -found[text])


def _message(pair: PairValues, fault: str) -> str:
    """One line of what is there and what was needed."""
    if pair.reason:
        return pair.reason if pair.relation == "different" else f"{pair.reason} are not compared"
    if not pair.blocks:  # bytes alone were compared
        return fault or "its bytes are others"
    errors = f"largest error {pair.largest:.3g}, root mean square {pair.rms:.3g}"
    if pair.relation != "different":
        return f"{pair.formula or 'by no known formula'}: {errors}"
    where = f"{pair.beyond or pair.unequal:,} of {pair.elements:,} elements"
    if pair.blocks > 1:
        where += f" in {pair.blocks_unlike or pair.blocks:,} of {pair.blocks:,} blocks"
    away = "beyond what its format rounds" if pair.beyond else "are others"
    return f"{f'{fault}: ' if fault else ''}{where} {away}; {errors}, correlation {pair.likeness:.3f}"


def _fault(pair: PairValues, origins: dict[str, str]) -> str:
    """What a pair that differs holds instead, where that is known."""
    if pair.relation == "not_compared":
        return pair.reason
    if pair.relation != "different" or pair.reason:
        return ""
    origin = origins.get(pair.new)
    if origin is None:
        return ""
    if expert_of(origin) is not None and kind_of(origin) == kind_of(pair.old):
        what = "another expert's or layer's values" if _layer(origin) != _layer(pair.old) else "another expert's values"
        return f"{what}, those of OLD's {named(origin)}"
    return f"another tensor's values, those of OLD's {named(origin)}"


def _layer(name: str) -> str:
    return name.partition(".experts.")[0]


def _by_usual_formulas(pairs: Iterable[PairValues]) -> Iterator[PairValues]:
    """The pairs, each by that of the formulas that fit it which fits most of the others."""
    pairs = list(pairs)
    fitting = Counter(formula for pair in pairs for formula in pair.formulas)
    for pair in pairs:
        usual = max(pair.formulas, key=fitting.__getitem__, default=pair.formula)
        yield pair if usual == pair.formula else replace(pair, formula=usual)


# --- the same values elsewhere ---


def _origins(pairs: Iterable[PairValues]) -> dict[str, str]:
    """Of pairs that differ, whose values NEW's are, among the others that differ: experts that were renumbered."""
    shapes: dict[tuple[tuple[int, ...], int], list[PairValues]] = {}
    for pair in pairs:
        if pair.relation == "different" and not pair.fault and pair.old_sketch and pair.new_sketch:
            shapes.setdefault((pair.shape, len(pair.new_sketch.values)), []).append(pair)
    found: dict[str, str] = {}
    for alike in shapes.values():
        alike = [each for each in alike[:_KNOWN_AGAIN] if _usable(each)]
        if not alike:
            continue
        old = np.array([each.old_sketch.values for each in alike if each.old_sketch is not None])
        new = np.array([each.new_sketch.values for each in alike if each.new_sketch is not None])
        sizes = np.square(old).sum(axis=1)
        apart = np.square(new).sum(axis=1)[:, None] + sizes[None, :] - 2 * new @ old.T
        for row, pair in enumerate(alike):
            nearest = int(np.argmin(apart[row]))
            if apart[row, nearest] <= _APART * sizes[nearest] and alike[nearest].old != pair.old:
                found[pair.new] = alike[nearest].old
    return found


def _usable(pair: PairValues) -> bool:
    assert pair.old_sketch is not None
    assert pair.new_sketch is not None
    values = (*pair.old_sketch.values, *pair.new_sketch.values)
    return len(pair.old_sketch.values) >= 4 and all(map(isfinite, values)) and any(pair.old_sketch.values)


# --- the parts of the result ---


def _badness(pair: PairValues) -> tuple[object, ...]:
    """What comes first: what differs, of that what has no finite error, then the largest errors."""
    error = pair.rms if isfinite(pair.rms) else float("inf")
    missing = pair.reason != "" and pair.relation == "different"
    return _ORDER.index(pair.relation), not missing, -error, -pair.largest, pair.new


def _kinds(pairs: Iterable[tuple[PairValues, str]]) -> Iterator[ComparedKind]:
    groups: dict[tuple[Relation, str, str, str, str], list[PairValues]] = {}
    for pair, fault in pairs:
        # Whose values a tensor holds is its own matter.
        said = fault.partition(", those of ")[0] or (pair.reason if pair.relation == "different" else "")
        said = "another shape or dtype" if said and said == pair.reason and pair.relation == "different" else said
        groups.setdefault((pair.relation, pair.old_format, pair.new_format, pair.formula, said), []).append(pair)
    for key in sorted(groups, key=lambda key: (_ORDER.index(key[0]), -len(groups[key]), key)):
        relation, old_format, new_format, formula, fault = key
        them = groups[key]
        total = sum(each.elements for each in them)
        yield ComparedKind(
            relation=relation,
            old_format=old_format,
            new_format=new_format,
            formula=formula,
            fault=fault,
            count=len(them),
            elements=total,
            unequal=sum(each.unequal for each in them),
            beyond=sum(each.beyond for each in them),
            largest_error=_finite(max(each.largest for each in them)),
            rms_error=_finite(sqrt(sum(each.rms**2 * each.elements for each in them) / max(1, total))),
            patterns=patterns(each.new for each in them),
        )


def _finite(value: float) -> float:
    """JSON has no infinity; the largest number stands for it."""
    return value if isfinite(value) else 1.7976931348623157e308


def _tensor(pair: PairValues, fault: str) -> ComparedTensor:
    first = pair.first
    place = None
    if first is not None:
        place = ElementPlace(
            row=first.row,
            column=first.column,
            old=first.old,
            new=first.new,
            file=pair.new_file,
            bytes=(first.begin, first.end),
        )
    return ComparedTensor(
        relation=pair.relation,
        old=pair.old,
        new=pair.new,
        paired_by=pair.how,
        old_format=pair.old_format,
        new_format=pair.new_format,
        shape=pair.shape,
        formula=pair.formula,
        fault="" if fault == pair.reason else fault,
        message=_message(pair, fault),
        elements=pair.elements,
        unequal=pair.unequal,
        beyond=pair.beyond,
        blocks=pair.blocks,
        blocks_unlike=pair.blocks_unlike,
        likeness=pair.likeness,
        largest_error=_finite(pair.largest),
        rms_error=_finite(pair.rms),
        first=place,
    )


def _unpaired(tensors: Iterable[Unpaired], why: Callable[[str], str]) -> Iterator[UnpairedTensors]:
    groups: dict[tuple[str, tuple[int, ...], str], list[str]] = {}
    for each in tensors:
        groups.setdefault((each.format, each.shape, why(each.name)), []).extend((each.name, *each.companions))
    for (kind, shape, excused), names in groups.items():
        yield UnpairedTensors(patterns=patterns(names), count=len(names), format=kind, shape=shape, excused=excused)
