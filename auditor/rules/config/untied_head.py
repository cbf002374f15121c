"""Where the embedding is the head as well, no head is stored; some loaders put the embedding in its place."""

from collections.abc import Iterator

from auditor.comparison.records import Match
from auditor.families.naming import Naming
from auditor_schemas.config import ModelConfig
from auditor_schemas.rule import ConfigField, Failure, Rule, Scope, Severity

RULE = Rule(
    id="CFG111",
    slug="untied-head",
    title="tie_word_embeddings is true, a head is stored",
    severity=Severity.WARNING,
    scope=Scope.CONFIG,
    examines="config fields",
)


def check(config: ModelConfig, match: Match, naming: Naming) -> Iterator[Failure]:
    """A failure where lm_head.weight is there; whether it is the embedding is told by those who read both."""
    if config.tie_word_embeddings and naming.head in match.unexpected:
        yield RULE.failure(
            f"tie_word_embeddings is true, {naming.head} is stored beside {naming.embedding}",
            file="config.json",
            field="tie_word_embeddings",
            expected=False,
            actual=True,
            tensors=(naming.head,),
            takes=(naming.head,),
            blames=(ConfigField("tie_word_embeddings"),),
        )
