"""The weights are there once, as safetensors, and not a second time in PyTorch's format."""

from collections.abc import Iterator, Mapping

from auditor.inventory.facts import Inventory
from auditor.sources.entry import Entry
from auditor_schemas.rule import Failure, Rule, Scope, Severity

RULE = Rule(
    id="FIL104",
    slug="pickled-weights",
    title="Weights in PyTorch's format lie beside the shards",
    severity=Severity.WARNING,
    scope=Scope.FILE,
    examines="files",
)
_SUFFIXES = (".bin", ".pt", ".pth", ".ckpt", "pytorch_model.bin.index.json")
# What trainers leave behind beside the weights, as vLLM and SGLang set it aside too; adapters have a rule of their own.
_NO_WEIGHTS = ("training_args.bin", "optimizer.bin", "optimizer.pt", "scheduler.pt", "scaler.pt", "adapter_model.bin")


def check(inventory: Inventory, listing: Mapping[str, Entry]) -> Iterator[Failure]:
    """One failure per file of such a set, where the shards are safetensors."""
    if not inventory.parts:
        return
    named = inventory.index.files if inventory.index is not None else {}
    for path, entry in sorted(listing.items()):
        if entry.kind != "file" or not path.endswith(_SUFFIXES) or path.endswith(_NO_WEIGHTS) or path in named:
            continue
        if not path.startswith("rng_state"):
            yield RULE.failure(
                "is in PyTorch's format and was not audited: transformers, vLLM and SGLang take the safetensors "
                "before it, unless they are told to load this format",
                file=path,
                fold=RULE.slug,
            )
