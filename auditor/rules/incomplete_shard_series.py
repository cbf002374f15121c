"""Shards named -00001-of-000163 are as many as their names say, numbered without a gap."""

import re
from collections.abc import Iterator

from auditor.facts import Inventory
from auditor.text import plural, quoted
from auditor_schemas.rule import Failure, Rule, Scope, Severity

RULE = Rule(
    id="IDX112",
    slug="incomplete-shard-series",
    title="Shard names count more or fewer shards than there are",
    severity=Severity.WARNING,
    scope=Scope.FILE,
    examines="shards",
)


_NUMBERED = re.compile(r"(.+)-([0-9]{1,9})-of-([0-9]{1,9})\.safetensors")


def check(inventory: Inventory) -> Iterator[Failure]:
    """One failure per series of names with a number missing or too many."""
    named = inventory.index.files if inventory.index is not None else {}
    series: dict[tuple[str, int], set[int]] = {}
    for path in {*named, *(shard.path for shard in inventory.parts)}:
        found = _NUMBERED.fullmatch(path)
        if found:
            series.setdefault((found[1], int(found[3])), set()).add(int(found[2]))
    for (stem, count), numbers in sorted(series.items()):
        if numbers == set(range(1, count + 1)) if count <= len(numbers) else False:
            continue
        yield RULE.failure(
            f"{quoted(stem)} counts {plural(count, 'shard')} by its name, {len(numbers)} "
            f"{'is' if len(numbers) == 1 else 'are'} there or in the index",
            file=f"{stem}-{min(numbers):05d}-of-{count:06d}.safetensors",
            expected=count,
            actual=len(numbers),
        )
