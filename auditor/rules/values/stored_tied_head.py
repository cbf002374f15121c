"""Where the config ties the head to the embedding, a head that is stored is told equal to it, or not."""

from collections.abc import Iterator

from auditor.comparison.value_groups import differing, tied_head
from auditor.content.probes import Probes
from auditor_schemas.config import ModelConfig
from auditor_schemas.rule import Failure, Rule, Scope, Severity

RULE = Rule(
    id="VAL125",
    slug="stored-tied-head",
    title="A head is stored that config.json ties to the embedding",
    severity=Severity.INFO,
    scope=Scope.TENSOR,
    examines="tied heads compared",
)


def check(digests: Probes, config: ModelConfig) -> Iterator[Failure]:
    """One failure where both matrices were read: whether they hold the same bytes, or strips of rows."""
    compared = tied_head(digests, config)
    if compared is None:
        return
    head, embedding = compared
    differ, of = differing(head, embedding) or (0, 0)
    strips = head.xxh3 is None or embedding.xxh3 is None
    where = f" in {differ if differ else of:,} of {of:,} strips of rows read" if strips else ""
    what = "holds other bytes than" if differ else "holds the bytes of"
    yield RULE.failure(
        f"{head.name} {what} {embedding.name}{where}; tie_word_embeddings is true",
        file=head.file,
        tensor=head.name,
        expected={"tensor": embedding.name, "xxh3_128": embedding.xxh3},
        actual={"xxh3_128": head.xxh3},
    )
