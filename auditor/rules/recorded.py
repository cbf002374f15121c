"""Faults that reading recorded, as failures of the rules that report them: what these rules have in common."""

from collections.abc import Callable, Iterable, Iterator, Sequence

from auditor.format.entries import Index, Shard
from auditor.format.files import INDEX
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


def of_index(
    rule: Rule, index: Index, *, field: str | None = None, blames: Sequence[Subject] = ()
) -> Iterator[Failure]:
    """One failure per fault of the index, which takes the tensors concerned along."""
    for fault in index.faults:
        if fault.slug == rule.slug:
            yield rule.failure(
                fault.message,
                file=INDEX,
                tensor=fault.tensors[0] if fault.tensors else None,
                field=field,
                span=fault.span,
                expected=fault.expected,
                actual=fault.actual,
                takes=fault.tensors,
                blames=blames,
            )


def of_config(
    rule: Rule, faults: Iterable[ConfigFault], *, blames: Callable[[ConfigFault], Sequence[Subject]] | None = None
) -> Iterator[Failure]:
    """One failure per fault of config.json."""
    for fault in faults:
        if fault.kind == rule.slug:
            yield rule.failure(
                fault.message,
                file=fault.file,
                field=fault.field,
                expected=fault.expected,
                actual=fault.actual,
                blames=() if blames is None else blames(fault),
            )
