"""The parameter figures of a config.json or a checkpoint, by every convention."""

from pathlib import Path
from typing import Any

from auditor.comparison import count
from auditor.comparison.match import match, take_census
from auditor.comparison.records import Differences, Tally
from auditor.errors import AuditorError, SourceError
from auditor.families.configure import Configuration
from auditor.families.expectations import Expectations
from auditor.inventory.facts import Inventory
from auditor.opening import open_checkpoint
from auditor.rules.counts import contradicted_count
from auditor.text import listed, shown


class InvalidConfigError(AuditorError):
    """config.json is there and its faults leave nothing to count (exit 1)."""

    code = "invalid"


def count_parameters(
    source: str, *, family: str | None = None, revision: str | None = None, cache: bool = True
) -> dict[str, Any]:
    """The parameter figures of a config.json, or of a checkpoint folder with its headers beside.

    Raises InvalidConfigError for a config.json with faults, SourceError where there is none.
    """
    path, place = Path(source), Path(source).name or source
    inventory: Inventory | None = None
    if "://" not in source and path.is_file():
        with open_checkpoint(str(path.parent), family=family, config=path.name) as checkpoint:
            configuration = checkpoint.configuration()
    else:
        with open_checkpoint(source, family=family, revision=revision, cache=cache) as checkpoint:
            if checkpoint.source.remote:
                source = place = checkpoint.source.uri
            configuration, inventory = checkpoint.configuration(), checkpoint.inventory()
    config, chosen = configuration.config, configuration.family
    if config is None or chosen is None:
        raise _uncountable(source, configuration)
    expectations = chosen.expectations(config)
    held = inventory or Inventory(())
    tally = count.tally(held, expectations, take_census(held, expectations))
    implied = {name: expected or 0 for name, (expected, _) in tally.components.items()}
    counts = count.conventions(implied, tally.expected_scale_elements or 0, config, chosen.apart)
    with_headers = inventory is not None and bool(inventory.parts)
    return {
        "source": place,
        "family": chosen.name,
        "agree": _agree(held, expectations, tally) if with_headers else None,
        "conventions": {
            key: {"parameters": counts[key], "convention": text} for key, text in count.CONVENTIONS.items()
        },
        "figures": [figure.model_dump(mode="json") for figure in count.figures(config, chosen, counts)],
        "components": [
            {"component": name, "from_config": expected, "from_headers": actual if with_headers else None}
            for name, (expected, actual) in tally.components.items()
        ],
        "scale_elements": tally.expected_scale_elements,
    }


def _agree(inventory: Inventory, expectations: Expectations, tally: Tally) -> bool:
    """Whether headers and config count the same, by the rule that an audit applies."""
    matched, differences = match(inventory, expectations), Differences(inventory, expectations)
    return not any(contradicted_count.check(tally, matched, differences))


def _uncountable(source: str, configuration: Configuration) -> AuditorError:
    unread = configuration.unsupported or configuration.over_limit
    if unread is not None:
        return SourceError(f"{source}: {unread}", code=unread.code)
    faults = [f"{fault.field + ' ' if fault.field else ''}{fault.message}" for fault in configuration.faults]
    if any(fault.kind == "missing-config" for fault in configuration.faults):
        return SourceError(f"{source}: config.json is not there")
    return InvalidConfigError(f"{source}: config.json: {shown(listed(faults))}")
