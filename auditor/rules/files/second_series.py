"""The weights are there in one split; loaders that read every *.safetensors file mix two of them."""

from collections.abc import Iterator

from auditor.format.entries import Shard
from auditor.format.files import member_of
from auditor.inventory.facts import Inventory
from auditor.text import plural, shown
from auditor_schemas.rule import Failure, File, Rule, Scope, Severity

RULE = Rule(
    id="FIL107",
    slug="second-series",
    title="A second series of shards holds the same weights",
    severity=Severity.ERROR,
    scope=Scope.FILE,
    examines="shards",
)


def check(inventory: Inventory) -> Iterator[Failure]:
    """One failure per numbered series of strays that is called like the shards or holds tensors of their names."""
    found: dict[tuple[str, int], list[Shard]] = {}
    for shard in inventory.shards:
        member = member_of(shard.path) if shard.stray else None
        if member is not None and not member.stem.startswith((".", "consolidated")):
            found.setdefault(member.series, []).append(shard)
    stems = {stem for stem, _ in inventory.index.series} if inventory.index is not None else set()
    if inventory.index is None:
        unnamed, mixed = "no index tells from the first", "vLLM, SGLang,"
    else:
        unnamed, mixed = "the index does not name", "transformers, vLLM and SGLang follow the index;"
    for (stem, count), shards in sorted(found.items()):
        again = sum(name in inventory.tensors for shard in shards for name in shard.tensors)
        if again or stem in stems:
            held = sum(len(shard.tensors) for shard in shards)
            yield RULE.failure(
                f"is one of a second series, {plural(len(shards), 'file')} called '{shown(stem)}-…-of-{count}', that "
                f"{unnamed}; {again:,} of {plural(held, 'tensor')} in it are the checkpoint's as well. "
                f"{mixed} TensorRT-LLM and DeepSeek's convert.py read every *.safetensors file, and "
                "of two tensors of a name take the one they read last",
                file=shards[0].path,
                takes=[File(shard.path) for shard in shards],
            )
