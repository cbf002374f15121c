"""Probes as the report shows them: groups of tensors alike, spot-checked weights, digests."""

import hashlib
import json
from collections.abc import Iterable, Sequence
from operator import attrgetter
from typing import Any

from auditor.comparison.magnitudes import far_share, median_exponent
from auditor.content.probes import Probes
from auditor.content.values import BlockValues, Outcome, ScaleValues, TensorValues
from auditor.patterns import expand, layer_and_kind, patterns
from auditor_schemas.content import (
    ContentDigest,
    FunctionalCheck,
    ProbeGroup,
    RoundTrip,
    ScaleFormula,
    ScaleProbe,
    ShardDigest,
    TensorDigests,
    TensorProbe,
    Texture,
)
from auditor_schemas.content import Probes as ReportProbes

# Of more weights than this only those are listed, and as many, that do not come back exactly: the groups have all.
_LISTED = 5_000
# The share of scales that follow a formula where all but damaged ones do; of others nine in ten do by chance.
_FOLLOW = 0.97


def probes(seen: Probes) -> ReportProbes:
    """What was read: by layer and kind, weight by weight where they are not too many, and the functional checks."""
    groups: dict[tuple[int | None, str, str], list[TensorValues]] = {}
    for values in seen.tensors.values():
        groups.setdefault((*layer_and_kind(values.name), values.dtype), []).append(values)
    ordered = sorted(groups, key=lambda key: (key[0] is None, key[0] or 0, key[1], key[2]))
    return outline(seen).model_copy(
        update={
            "groups": tuple(_group(*key, groups[key]) for key in ordered),
            "tensors": tuple(map(_tensor, _choose(seen.weights))),
        }
    )


def outline(seen: Probes) -> ReportProbes:
    """The same without groups and weights, which only a saved report shows."""
    return ReportProbes(
        groups=(),
        tensors=(),
        functional=tuple(
            FunctionalCheck(
                tensor=each.tensor,
                tokens=each.tokens,
                rows=each.rows,
                device=each.device,
                relative_error=each.relative_error,
                tolerance=each.tolerance,
                within=each.relative_error <= each.tolerance,
            )
            for each in seen.functional
        ),
        scale_formula=_scale_formula([each.scales for each in seen.scales if each.scales is not None]),
    )


def _scale_formula(scales: Sequence[ScaleValues]) -> ScaleFormula | None:
    """What gives the usable scales, bad ones among them aside."""
    usable = sum(each.usable for each in scales)
    if not usable:
        return None
    if all(each.minimum == each.maximum == 1 for each in scales):
        return "none"
    counts: dict[ScaleFormula, int] = {
        "2^ceil(log2(amax / 448))": sum(each.powers_of_two for each in scales),
        "amax / 448": sum(each.published for each in scales),
        "1 / (448 / amax)": sum(each.reciprocal for each in scales),
    }
    return next((formula for formula, count in counts.items() if count >= _FOLLOW * usable), "none")


def _choose(weights: Sequence[TensorValues]) -> Sequence[TensorValues]:
    if len(weights) <= _LISTED:
        return weights
    return [each for each in weights if each.blocks is not None and _verdict(each.blocks) != "exact"][:_LISTED]


def content_digest(seen: Probes) -> ContentDigest | None:
    """The digests of shards and tensors, where every byte was read and hashed; None where not."""
    if not seen.complete or not seen.shards or any(shard.sha256 is None for shard in seen.shards):
        return None
    shards = [(shard.file, shard.size, shard.sha256 or "") for shard in seen.shards]
    canonical = json.dumps([[file, sha256] for file, _, sha256 in shards], separators=(",", ":"))
    digests = {name: values.xxh3 or "" for name, values in seen.tensors.items()}
    return ContentDigest(
        sha256=hashlib.sha256(canonical.encode()).hexdigest(),
        shards=tuple(ShardDigest(file=file, bytes=size, sha256=sha256) for file, size, sha256 in shards),
        tensors=tuple(
            TensorDigests(pattern=pattern, xxh3_128=tuple(map(digests.__getitem__, expand(pattern))))
            for pattern in patterns(digests)
        ),
    )


def _group(layer: int | None, kind: str, dtype: str, alike: Sequence[TensorValues]) -> ProbeGroup:
    blocks = [values.blocks for values in alike if values.blocks is not None]
    scales = [values.scales for values in alike if values.scales is not None]
    return ProbeGroup(
        layer=layer,
        kind=kind,
        dtype=dtype,
        tensors=len(alike),
        **_totals(alike, "elements", "nan", "infinite", "zeros"),
        elements_read=sum(values.read for values in alike),
        minimum=min((values.minimum for values in alike if values.minimum is not None), default=None),
        maximum=max((values.maximum for values in alike if values.maximum is not None), default=None),
        zero_blocks=sum(each.zero for each in blocks),
        largest_codes=_sum(each.largest for each in blocks) if blocks else None,
        round_trip=_round_trip(blocks) if blocks else None,
        scales=_scales(scales) if scales else None,
        texture=None if scales else _texture(alike),
    )


def _texture(alike: Sequence[TensorValues]) -> Texture | None:
    codes = [values.texture for values in alike if values.texture is not None and values.texture.pages]
    rows = [values.matrix for values in alike if values.matrix is not None and values.matrix.rows]
    floats = [values for values in alike if values.exponents]
    if not codes and not rows and not floats:
        return None
    middles = sorted(map(median_exponent, floats))
    return Texture(
        small_codes=max((each.small for each in codes), default=None),
        zero_run=max((each.zero_run for each in codes), default=None),
        sign_run=max((each.sign_run for each in codes), default=None),
        **_totals(alike, "doubled_pages"),
        zero_rows=max((each.zeros / each.rows for each in rows), default=None),
        doubled_rows=max((each.doubled / each.rows for each in rows), default=None),
        median_exponents=(middles[0], middles[-1]) if middles else None,
        far_values=max(map(far_share, floats), default=None),
    )


def _round_trip(blocks: Sequence[BlockValues]) -> RoundTrip:
    totals = _totals(blocks, "blocks", "exact", "value_equal", "changed", "undefined", "drifted")
    return RoundTrip(**totals, largest_relative_error=max(each.error for each in blocks) if totals["changed"] else None)


def _scales(scales: Sequence[ScaleValues]) -> ScaleProbe:
    counts = ("values", "nan", "infinite", "zero", "negative", "subnormal", "powers_of_two", "published", "reciprocal")
    medians = sorted(each.median for each in scales if each.median is not None)
    return ScaleProbe(
        **_totals(scales, *counts),
        minimum=min((each.minimum for each in scales if each.minimum is not None), default=None),
        median=medians[len(medians) // 2] if medians else None,
        maximum=max((each.maximum for each in scales if each.maximum is not None), default=None),
        exponents=_sum(each.exponents for each in scales),
        above=max((each.maximum / each.median for each in scales if each.maximum and each.median), default=None),
        below=max((each.median / each.minimum for each in scales if each.minimum and each.median), default=None),
    )


def _totals(of: Sequence[object], *names: str) -> dict[str, Any]:
    """The sums of some values of theirs, by name."""
    return {name: sum(map(attrgetter(name), of)) for name in names}


def _sum(counts: Iterable[dict[int, int]]) -> dict[int, int]:
    total: dict[int, int] = {}
    for each in counts:
        for key, count in each.items():
            total[key] = total.get(key, 0) + count
    return dict(sorted(total.items()))


def _tensor(values: TensorValues) -> TensorProbe:
    blocks = values.blocks
    assert blocks is not None
    return TensorProbe(
        tensor=values.name,
        file=values.file,
        shape=values.shape,
        rows_read=values.rows or ((0, values.shape[0]),),
        round_trip=_round_trip([blocks]),
        verdict=_verdict(blocks),
    )


def _verdict(blocks: BlockValues) -> Outcome:
    """The worst that became of a block."""
    if blocks.undefined:
        return "undefined"
    if blocks.changed:
        return "changed"
    return "value_equal" if blocks.value_equal else "exact"
