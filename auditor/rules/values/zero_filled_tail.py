"""A shard's last tensors are not filled up with zeros, as a truncated and padded download leaves them."""

from collections.abc import Iterator

from auditor.comparison.value_groups import may_be_zero
from auditor.content.probes import Probes
from auditor.content.values import ShardValues, weight_of
from auditor.families.naming import Naming
from auditor.format.entries import Shard
from auditor.inventory.facts import Inventory
from auditor.text import plural, size
from auditor_schemas.rule import Failure, RoundTrip, Rule, Scope, Severity

RULE = Rule(
    id="VAL112",
    slug="zero-filled-tail",
    title="A shard ends in zeros",
    severity=Severity.ERROR,
    scope=Scope.FILE,
    examines="shards read",
)


# Of a sound shard's end less may be zero: biases, which are set aside, a padded page or block, rows of padding.
LEAST = 64 << 10
# Rows of a vocabulary that no token uses: the release's are 465 of 129,280.
PADDING = 1 / 16


def check(whole_probes: Probes, inventory: Inventory) -> Iterator[Failure]:
    """One failure per shard whose zero tail reaches over more than biases and padding."""
    shards = {shard.path: shard for shard in inventory.parts}
    for values in whole_probes.shards:
        shard = shards.get(values.file)
        if shard is None or values.zero_tail < LEAST:
            continue
        begin = values.size - values.zero_tail
        inside = sorted((end, name) for name in shard.tensors for _, end in [shard.span(name)] if end > begin)
        names = [name for _, name in inside]
        if _is_sound(values, shard, names, begin, whole_probes.naming):
            continue
        whole = sum(shard.span(name)[0] >= begin for name in names)
        yield RULE.failure(
            f"the last {values.zero_tail:,} of {values.size:,} bytes ({size(values.zero_tail)}) are 0: "
            f"{plural(whole, 'tensor')} wholly and {len(names) - whole:,} in part",
            file=values.file,
            span=(begin, values.size),
            expected="tensor data up to the end",
            actual={"zero_bytes": values.zero_tail, "of": values.size},
            tensors=names,
            takes=(*names, *(_round_trip(name, whole_probes) for name in names)),
            fold=RULE.slug,
        )


def _is_sound(values: ShardValues, shard: Shard, names: list[str], begin: int, naming: Naming) -> bool:
    """Whether biases and padding account for the zeros. `names` reach into them, the last one last."""
    read = {each.name: each for each in values.tensors}
    last = len(names) - 1
    while last >= 0 and names[last] in read and may_be_zero(read[names[last]]):
        last -= 1
    if last < 0:
        return True
    first_byte, end = shard.span(names[last])
    if end - begin < LEAST:
        return True
    return naming.is_vocabulary(names[last]) and end - max(begin, first_byte) < (end - first_byte) * PADDING


def _round_trip(name: str, probes: Probes) -> RoundTrip:
    values = probes.tensors.get(name)
    return RoundTrip(name if values is None or values.scales is None else weight_of(values))
