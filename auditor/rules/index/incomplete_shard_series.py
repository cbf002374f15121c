"""Shards named -00001-of-000163 are as many as their names say, numbered without a gap."""

from collections.abc import Iterator
from itertools import islice

from auditor.format.files import member_of
from auditor.inventory.facts import Inventory
from auditor.text import listed, named, plural
from auditor_schemas.rule import Failure, Rule, Scope, Severity

RULE = Rule(
    id="IDX112",
    slug="incomplete-shard-series",
    title="Shard names count more or fewer shards than there are",
    severity=Severity.WARNING,
    scope=Scope.FILE,
    examines="shards",
)


def check(inventory: Inventory) -> Iterator[Failure]:
    """One failure per series of names with a number missing or too many; without an index they are missing shards."""
    if inventory.unnumbered is not None:
        return
    files = inventory.index.files if inventory.index is not None else {}
    series: dict[tuple[str, int], dict[int, str]] = {}
    for path in {*files, *(shard.path for shard in inventory.parts)}:
        member = member_of(path.rpartition("/")[2])
        if member is not None:
            series.setdefault(member.series, {})[member.number] = path
    for (stem, count), numbers in sorted(series.items()):
        outside = sorted(number for number in numbers if not 1 <= number <= count)
        missing = count - (len(numbers) - len(outside))
        if not outside and not missing:
            continue
        absent = islice((number for number in range(1, count + 1) if number not in numbers), 3)
        faults = []
        if missing:
            faults.append(f"{plural(missing, 'number')} missing, the first {', '.join(map(str, absent))}")
        if outside:
            faults.append(f"numbered outside 1 to {count}: {listed(outside)}")
        yield RULE.failure(
            f"{named(stem)} counts {plural(count, 'shard')} by its name; {'; '.join(faults)}",
            file=numbers[min(numbers)],
            expected=count,
            actual=len(numbers),
        )
