"""Each shard is, byte for byte, the one that its store declares by a digest."""

from collections.abc import Iterator, Mapping

from auditor.content.probes import Probes
from auditor_schemas.rule import Failure, Rule, Scope, Severity

RULE = Rule(
    id="VAL117",
    slug="differing-digest",
    title="A shard is not the one that its store declares",
    severity=Severity.ERROR,
    scope=Scope.FILE,
    examines="digests compared",
)


def check(whole_digests: Probes, declared_digests: Mapping[str, str]) -> Iterator[Failure]:
    """One failure per shard whose bytes have another SHA-256 than the declared one."""
    for values in whole_digests.shards:
        wanted = declared_digests.get(values.file)
        if wanted is None or values.sha256 is None or values.sha256 == wanted:
            continue
        yield RULE.failure(
            f"SHA-256 of the {values.size:,} bytes read is {values.sha256[:12]}…, the store declares {wanted[:12]}…",
            file=values.file,
            expected={"sha256": wanted},
            actual={"sha256": values.sha256},
            fold=RULE.slug,
        )
