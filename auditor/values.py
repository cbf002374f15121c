"""What rules about values have in common: which tensors hold bad values, where the first stands, what was looked at."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

from msgspec import Struct

from auditor.dtypes import FP8
from auditor.facts import SCALE_SUFFIX, Blocked, Inventory
from auditor.names import expert_of, is_vocabulary, layer_of
from auditor.probes import Position, Probes, ScaleValues, TensorValues
from auditor.text import plural
from auditor_schemas.rule import RoundTrip

NOT_READ = Blocked("tensor data is not read at depth headers")
# The copies that an MTP module stores, by what follows its layer, and what they are copies of.
_ORIGINALS = {"embed_tokens.weight": "model.embed_tokens.weight", "shared_head.head.weight": "lm_head.weight"}


class Bad(Struct, frozen=True):
    """One tensor's values that it should not hold: how many of how many read, and the first of them."""

    values: TensorValues
    count: int
    of: int
    first: Position | None = None


def bad_scales(probes: Probes, *kinds: str) -> list[Bad]:
    """Tensors of block scales that hold values of these kinds, named as the fields of ScaleValues."""
    found = []
    for values in probes.scales():
        scales = values.scales
        assert scales is not None
        count = sum(getattr(scales, kind) for kind in kinds)
        if count:
            places = [scales.first[kind] for kind in kinds if kind in scales.first]
            first = min(places, key=lambda place: place.element, default=None)
            found.append(Bad(values, count, scales.values, first))
    return found


def together(found: Sequence[Bad], tell: Callable[[Bad], str], *, whole: bool = False) -> Iterator[tuple[Bad, str]]:
    """Each with its message; the first's, which stands for all where they fold, has the sums.

    `whole`: what is bad are whole tensors, so that only they are counted.
    """
    for position, bad in enumerate(found):
        message = tell(bad)
        if position == 0 and len(found) > 1:
            sums = f"{len(found):,} tensors are alike"
            message += f"; {sums if whole else f'{sum(each.count for each in found):,} in {len(found):,} tensors'}"
        yield bad, message


def first_place(bad: Bad) -> str:
    """', the first (nan) at block row 0, column 2' of scales, ': nan at …' of one; row and column of another value."""
    if bad.first is None:
        return ""
    at = place(bad.values, bad.first)
    return f", the first ({bad.first.text}) at {at}" if bad.count > 1 else f": {bad.first.text} at {at}"


def place(values: TensorValues, position: Position) -> str:
    """A value's place in words."""
    if values.scales is not None:
        row, column = block_of(values.scales, position)
        return f"block row {row:,}, column {column:,}"
    if len(values.shape) < 2:
        return f"element {position.element:,}"
    row, column = divmod(position.element, values.shape[-1])
    return f"row {row:,}, column {column:,}"


def block_of(scales: ScaleValues, position: Position) -> tuple[int, int]:
    """The block row and column that a scale belongs to."""
    return divmod(position.element, max(1, scales.columns))


def span(position: Position | None) -> tuple[int, int] | None:
    """The bytes of a value."""
    return None if position is None else (position.begin, position.end)


def weight_of(scale: str) -> str:
    """The name of the weight that a scale belongs to."""
    return scale.removesuffix(SCALE_SUFFIX)


def round_trip_of(weight: str) -> RoundTrip:
    """How a failure's `takes` and `blames` name the round trip of a weight's blocks."""
    return RoundTrip(weight)


def scale_actual(bad: Bad) -> dict[str, object]:
    """What was found of bad scales, for programs: the weight, the first's block and value, how many."""
    scales = bad.values.scales
    assert scales is not None
    actual: dict[str, object] = {"weight": weight_of(bad.values.name), "scales": bad.count, "of": bad.of}
    if bad.first is not None:
        actual |= {"block": list(block_of(scales, bad.first)), "value": bad.first.text}
    return actual


def share(values: TensorValues) -> str:
    """'all 61,440 values', or at depth sample 'all 16,384 values read of 61,440'."""
    if values.whole:
        return f"all {plural(values.elements, 'value')}"
    return f"all {plural(values.read, 'value')} read of {values.elements:,}"


def may_be_zero(values: TensorValues) -> bool:
    """Whether a tensor of zeros is sound: biases begin as zeros."""
    return values.name.endswith("bias")


def entirely_zero(values: TensorValues) -> bool:
    """Whether everything read of a tensor is zero. Of a vocabulary matrix one strip says nothing: it may be padding."""
    if not values.read or values.zeros != values.read or values.scales is not None:
        return False
    return values.whole or not is_vocabulary(values.name) or len(values.rows) > 1


def copies(probes: Probes) -> Iterator[tuple[TensorValues, TensorValues]]:
    """MTP modules' copies of vocabulary matrices with their originals, where bytes of both can be compared."""
    for name, values in probes.tensors.items():
        layer = layer_of(name)
        if layer is None:
            continue
        original = probes.tensors.get(_ORIGINALS.get(name.removeprefix(f"model.layers.{layer}."), ""))
        if original is not None and differing(values, original) is not None:
            yield values, original


def differing(one: TensorValues, other: TensorValues) -> tuple[int, int] | None:
    """How many of how many comparable byte ranges differ; None where nothing is comparable."""
    if one.xxh3 is not None and other.xxh3 is not None:
        return int(one.xxh3 != other.xxh3), 1
    strips = dict(zip(one.rows, one.strips, strict=False))
    same = [strips[rows] == strip for rows, strip in zip(other.rows, other.strips, strict=False) if rows in strips]
    return (same.count(False), len(same)) if same else None


def by_expert(tensors: Iterable[TensorValues]) -> dict[tuple[int, int], dict[str, TensorValues]]:
    """Routed experts by layer and number, each with its tensors by what follows the number."""
    found: dict[tuple[int, int], dict[str, TensorValues]] = {}
    for values in tensors:
        expert, layer = expert_of(values.name), layer_of(values.name)
        if expert is not None and layer is not None:
            suffix = values.name.removeprefix(f"model.layers.{layer}.mlp.experts.{expert}.")
            found.setdefault((layer, expert), {})[suffix] = values
    return found


def by_layer(tensors: Iterable[TensorValues]) -> dict[int, dict[str, TensorValues]]:
    """The weight matrices of each decoder layer by what follows the layer's number; what only MTP has is left out."""
    found: dict[int, dict[str, TensorValues]] = {}
    for values in tensors:
        layer = layer_of(values.name)
        if layer is None or values.scales is not None or len(values.shape) < 2:
            continue
        suffix = values.name.removeprefix(f"model.layers.{layer}.")
        if suffix.startswith(("self_attn.", "mlp.")):
            found.setdefault(layer, {})[suffix] = values
    return found


def alike(groups: dict[tuple[int, ...], dict[str, TensorValues]]) -> list[list[tuple[int, ...]]]:
    """The groups of tensors whose bytes are all equal, two or more of a kind; those not digested are left out."""
    found: dict[tuple[tuple[str, str], ...], list[tuple[int, ...]]] = {}
    for key, members in groups.items():
        digests = tuple(sorted((suffix, values.xxh3) for suffix, values in members.items() if values.xxh3 is not None))
        if digests and len(digests) == len(members):
            found.setdefault(digests, []).append(key)
    return [keys for keys in found.values() if len(keys) > 1]


def declared(inventory: Inventory) -> dict[str, str]:
    """The SHA-256 that the store declares of each shard, where it declares one."""
    entries = {shard.path: inventory.entries.get(shard.path) for shard in inventory.parts}
    return {path: entry.sha256 for path, entry in entries.items() if entry is not None and entry.sha256 is not None}


def content_facts(
    probes: Probes | Blocked, declared: Mapping[str, str] | None = None
) -> dict[str, Probes | Mapping[str, str] | Blocked]:
    """The facts that rules about values ask for, by name; each but the first only where it can be had.

    `declared`: the SHA-256 of shards as the store declares it, by path.
    """
    names = ("probes", "whole_probes", "ue8m0_probes", "digests", "whole_digests", "declared_digests")
    if isinstance(probes, Blocked):
        return dict.fromkeys(names, probes)
    sampled = Blocked("not every byte is read at depth sample")
    undigested = Blocked("no digests were made")
    # Without --no-digests every tensor has one; with it vocabulary matrices alone.
    digested = [values.xxh3 is not None or bool(values.strips) for values in probes.tensors.values()]
    return {
        "probes": probes,
        "whole_probes": probes if probes.complete else sampled,
        "ue8m0_probes": probes if probes.powers_of_two else Blocked("config.json declares no scale_fmt"),
        "digests": probes if any(digested) else undigested,
        "whole_digests": sampled if not probes.complete else probes if digested and all(digested) else undigested,
        "declared_digests": declared or Blocked("the source declares no SHA-256 of its shards"),
    }


def examined(probes: Probes | Blocked, declared: Mapping[str, str] | Blocked | None = None) -> dict[str, int]:
    """How many subjects of each kind there are for rules about values to look at."""
    if isinstance(probes, Blocked):
        return {}
    tensors = probes.tensors.values()
    named = {} if declared is None or isinstance(declared, Blocked) else declared
    return {
        "tensors read": len(tensors),
        "FP8 tensors read": sum(values.dtype == FP8 for values in tensors),
        "unquantised tensors read": sum(values.dtype != FP8 and values.scales is None for values in tensors),
        "scales read": sum(values.scales is not None for values in tensors),
        "weight blocks read": sum(values.blocks.blocks for values in tensors if values.blocks is not None),
        "shards read": len(probes.shards),
        "digests compared": sum(shard.sha256 is not None and shard.file in named for shard in probes.shards),
        "MTP copies compared": sum(1 for _ in copies(probes)),
        "experts read": len(by_expert(tensors)),
        "layers read": len(by_layer(tensors)),
    }
