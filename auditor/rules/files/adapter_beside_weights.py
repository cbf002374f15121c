"""No adapter lies beside the weights: with peft installed, loaders apply it without being asked."""

from collections.abc import Iterator, Mapping

from auditor.sources.entry import Entry
from auditor_schemas.rule import Failure, File, Rule, Scope, Severity

RULE = Rule(
    id="FIL105",
    slug="adapter-beside-weights",
    title="An adapter is loaded over the weights",
    severity=Severity.WARNING,
    scope=Scope.FILE,
    examines="files",
)
_CONFIG = "adapter_config.json"
_WEIGHTS = ("adapter_model.safetensors", "adapter_model.bin")


def check(listing: Mapping[str, Entry]) -> Iterator[Failure]:
    """A failure where adapter_config.json is there."""
    entry = listing.get(_CONFIG)
    if entry is None or entry.kind != "file":
        return
    weights = [path for path in _WEIGHTS if path in listing]
    beside = f"with {' and '.join(weights)}" if weights else "without adapter weights"
    yield RULE.failure(
        f"is there, {beside}: where peft is installed, AutoModel loads the base model that it names and the adapter "
        "over it; only the base beside it was audited",
        file=_CONFIG,
        takes=[File(path) for path in weights],
    )
