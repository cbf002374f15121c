"""MTP modules are declared by num_nextn_predict_layers; loaders ignore others."""

from collections.abc import Iterator

from auditor.comparison import Match
from auditor_schemas.config import DeepseekV3Config
from auditor_schemas.rule import Failure, Rule, Scope, Severity

RULE = Rule(
    id="MTP102",
    slug="undeclared-mtp-module",
    title="An MTP module is there that config.json does not declare",
    severity=Severity.WARNING,
    scope=Scope.MODULE,
    examines="MTP modules",
)


def check(match: Match, config: DeepseekV3Config) -> Iterator[Failure]:
    """One failure per layer behind the declared ones that has an MTP module's tensors."""
    for layer, names in match.undeclared_mtp.items():
        yield RULE.failure(
            f"num_nextn_predict_layers is {config.mtp_modules}, layer {layer} is an MTP module",
            file="config.json",
            field="num_nextn_predict_layers",
            tensors=names,
            takes=names,
            expected=config.mtp_modules + len(match.undeclared_mtp),
            actual=config.mtp_modules,
            fold=RULE.slug,
        )
