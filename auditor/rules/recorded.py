"""Faults that reading recorded, as failures of the rules that report them: what these rules have in common."""

from collections.abc import Callable, Iterable, Iterator, Sequence

from auditor.format.entries import Shard
from auditor.inventory.facts import ConfigFault, Inventory
from auditor_schemas.rule import Failure, Rule, Subject


def of_shards(
    rule: Rule, inventory: Inventory, *, takes: Callable[[Shard], Sequence[Subject]] | None = None
) -> Iterator[Failure]:
    """One failure per shard and kind of fault, with all the tensors concerned and what the shard `takes` along."""
    for shard, fault in inventory.faults(rule.slug):
        yield rule.failure(
            fault.message,
            file=shard.path,
            tensor=fault.tensors[0] if fault.tensors else None,
            span=fault.span,
            expected=fault.expected,
            actual=fault.actual,
            tensors=fault.tensors,
            takes=() if takes is None else takes(shard),
            fold=fault.kind or rule.slug,
        )


def of_config(rule: Rule, faults: Iterable[ConfigFault], *, blames: Sequence[Subject] = ()) -> Iterator[Failure]:
    """One failure per fault of config.json."""
    for fault in faults:
        if fault.kind == rule.slug:
            yield rule.failure(
                fault.message,
                file="config.json",
                field=fault.field,
                expected=fault.expected,
                actual=fault.actual,
                blames=blames,
            )
