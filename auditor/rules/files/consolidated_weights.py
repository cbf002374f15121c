"""No consolidated*.safetensors lies beside the shards: vLLM takes it for the weights in Mistral's format."""

from collections.abc import Iterator, Mapping

from auditor.format.files import is_consolidated
from auditor.inventory.facts import Inventory
from auditor.sources.entry import Entry
from auditor.text import plural
from auditor_schemas.rule import Failure, File, Rule, Scope, Severity

RULE = Rule(
    id="FIL103",
    slug="consolidated-weights",
    title="Consolidated weights are loaded in place of the shards",
    severity=Severity.ERROR,
    scope=Scope.FILE,
    examines="files",
)


def check(inventory: Inventory, listing: Mapping[str, Entry]) -> Iterator[Failure]:
    """One failure per consolidated file that is no part of the checkpoint."""
    parts = {shard.path for shard in inventory.parts}
    for path, entry in sorted(listing.items()):
        if is_consolidated(path) and entry.kind == "file" and parts and path not in parts:
            yield RULE.failure(
                f"is there beside {plural(len(parts), 'shard')}: vLLM (load format auto) loads what is called "
                "consolidated*.safetensors, and nothing else",
                file=path,
                expected="the shards alone",
                actual="consolidated weights as well",
                takes=(File(path),),
                fold=RULE.slug,
            )
