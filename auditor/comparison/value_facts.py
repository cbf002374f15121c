"""The facts that rules about values ask for by name, and how many subjects there are for each to look at."""

from collections.abc import Mapping
from typing import Any

from auditor.comparison.equal_bytes import equal_bytes
from auditor.comparison.magnitudes import odd_magnitudes
from auditor.comparison.outliers import outliers
from auditor.comparison.value_groups import copies, tied_head, within_240, zeroed_experts
from auditor.content.probes import Probes
from auditor.format.dtypes import FP8
from auditor.inventory.facts import Blocked, Inventory
from auditor_schemas.config import ModelConfig
from auditor_schemas.policy import DEFAULT_THRESHOLDS, Thresholds

NOT_READ = Blocked("tensor data is not read at depth headers")


def content_facts(
    probes: Probes | Blocked,
    declared: Mapping[str, str] | None = None,
    *,
    config: ModelConfig | Blocked | None = None,
    thresholds: Thresholds = DEFAULT_THRESHOLDS,
) -> dict[str, Any]:
    """The facts that rules about values ask for, by name; each but the first only where it can be had.

    `declared`: the SHA-256 of shards as the store declares it, by path. `config` says what is equal on purpose.
    """
    names = (
        "probes", "whole_probes", "ue8m0_probes", "free_probes", "outliers", "odd_magnitudes", "narrow_blocks",
        "zeroed_experts", "equal_bytes", "digests", "whole_digests", "declared_digests",
    )  # fmt: skip
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
        "free_probes": Blocked("config.json declares scale_fmt ue8m0") if probes.powers_of_two else probes,
        "outliers": outliers(probes, thresholds),
        "odd_magnitudes": odd_magnitudes(probes, thresholds),
        "narrow_blocks": within_240(probes),
        "zeroed_experts": zeroed_experts(probes),
        "equal_bytes": equal_bytes(probes, thresholds, tied=_is_tied(config)),
        "digests": probes if any(digested) else undigested,
        "whole_digests": sampled if not probes.complete else probes if digested and all(digested) else undigested,
        "declared_digests": declared or Blocked("the source declares no SHA-256 of its shards"),
    }


def _is_tied(config: ModelConfig | Blocked | None) -> bool:
    return config is not None and not isinstance(config, Blocked) and config.tie_word_embeddings


def count_value_subjects(
    probes: Probes | Blocked,
    declared: Mapping[str, str] | Blocked | None = None,
    config: ModelConfig | Blocked | None = None,
) -> dict[str, int]:
    """How many subjects of each kind there are for rules about values to look at."""
    if isinstance(probes, Blocked):
        return {}
    others = probes.others
    plain = [*probes.weights, *others]
    codes = sum(1 for values in plain if values.dtype == FP8)
    textures = [values.texture for values in probes.weights if values.texture is not None]
    named = {} if declared is None or isinstance(declared, Blocked) else declared
    return {
        "tensors read": len(probes.tensors),
        "shapes read": sum(values.shape_said is not None for values in others),
        "expected tensors read": sum(1 for values in probes.tensors.values() if values.role is not None),
        "unquantised matrices read": sum(values.matrix is not None for values in others),
        "vocabulary matrices read": len(probes.vocabulary),
        "weights whose texture was read": sum(1 for texture in textures if texture.pages > 0),
        "tables read": sum(values.table is not None for values in others),
        "FP8 tensors read": codes,
        "unquantised tensors read": len(plain) - codes,
        "scales read": len(probes.scales),
        "weight blocks read": sum(values.blocks.blocks for values in probes.weights if values.blocks is not None),
        "shards read": len(probes.shards),
        "digests compared": sum(shard.sha256 is not None and shard.file in named for shard in probes.shards),
        "correction biases read": len(probes.correction_biases),
        "tied heads compared": 0
        if config is None or isinstance(config, Blocked)
        else int(tied_head(probes, config) is not None),
        "MTP copies compared": sum(1 for _ in copies(probes)),
        "experts read": len(probes.experts),
        "layers read": len(probes.layers),
    }


def declared_digests(inventory: Inventory) -> dict[str, str]:
    """The SHA-256 that the store declares of each shard, where it declares one."""
    entries = {shard.path: inventory.entries.get(shard.path) for shard in inventory.parts}
    return {path: entry.sha256 for path, entry in entries.items() if entry is not None and entry.sha256 is not None}
