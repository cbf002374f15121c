"""MTP modules are declared by num_nextn_predict_layers; loaders ignore others."""

from collections.abc import Iterator
from itertools import islice

from auditor.comparison.records import Match
from auditor_schemas.config import ModelConfig
from auditor_schemas.rule import Failure, Rule, Scope, Severity

RULE = Rule(
    id="MTP102",
    slug="undeclared-mtp-module",
    title="An MTP module is there that config.json does not declare",
    severity=Severity.WARNING,
    scope=Scope.MODULE,
    examines="MTP modules",
)

_MOST = 1_000  # failures; no config can declare as many modules


def check(match: Match, config: ModelConfig) -> Iterator[Failure]:
    """One failure per layer behind the declared ones that has an MTP module's tensors; of many one for the rest."""
    layers = iter(match.undeclared_mtp.items())
    modules = list(islice(layers, _MOST))
    rest = tuple(name for _, names in layers for name in names)
    if rest:
        modules[-1] = (modules[-1][0], (*modules[-1][1], *rest))
    for layer, names in modules:
        yield RULE.failure(
            f"{config.mtp_told}, layer {layer} is an MTP module",
            file="config.json",
            field=config.mtp_field,
            tensors=names,
            takes=names,
            expected=config.mtp_modules + len(match.undeclared_mtp),
            actual=config.mtp_modules,
            fold=RULE.slug,
        )
