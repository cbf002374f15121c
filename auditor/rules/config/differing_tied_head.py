"""A head that is stored where config.json ties it to the embedding is the embedding; else loaders build two models."""

from collections.abc import Iterator

from auditor.comparison.value_groups import differing, tied_head
from auditor.content.probes import Probes
from auditor.text import plural
from auditor_schemas.config import ModelConfig
from auditor_schemas.rule import ConfigField, Failure, Rule, Scope, Severity

RULE = Rule(
    id="CFG112",
    slug="differing-tied-head",
    title="tie_word_embeddings is true, the stored head is not the embedding",
    severity=Severity.ERROR,
    scope=Scope.CONFIG,
    examines="tied heads compared",
)


def check(digests: Probes, config: ModelConfig) -> Iterator[Failure]:
    """A failure where lm_head.weight holds other bytes than the embedding, as a whole or in strips of rows."""
    compared = tied_head(digests, config)
    if compared is None:
        return
    head, embedding = compared
    differ, of = differing(head, embedding) or (0, 0)
    if differ:
        where = f" in {differ:,} of {plural(of, 'strip')} of rows read" if of > 1 else ""
        yield RULE.failure(
            f"tie_word_embeddings is true, {head.name} differs from {embedding.name}{where}",
            file="config.json",
            field="tie_word_embeddings",
            expected=False,
            actual=True,
            tensors=(head.name,),
            takes=(head.name, ConfigField("tie_word_embeddings")),
        )
