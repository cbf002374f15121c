"""Derives every fact that rules ask for by name, or says what blocks it."""

from collections.abc import Callable
from typing import Any

from msgspec.structs import replace

from auditor.comparison import count, value_facts
from auditor.comparison.causes import CAUSES, causes_of
from auditor.comparison.causes.other_family import named_as, named_as_another
from auditor.comparison.exclusions import unmatched_exclusions
from auditor.comparison.infer import infer
from auditor.comparison.match import match, take_census
from auditor.comparison.pair import pair
from auditor.comparison.records import Census, Differences, Match
from auditor.comparison.structure.facts import count_structure, structure_facts
from auditor.errors import Unread
from auditor.families.configure import Configuration
from auditor.families.expectations import Expectations
from auditor.families.naming import Naming
from auditor.format.files import CONFIG
from auditor.inventory.facts import Blocked, ConfigFile, Inventory
from auditor.text import listed, plural
from auditor_schemas.config import ModelConfig
from auditor_schemas.policy import Limits


def expectations_of(configuration: Configuration) -> Expectations | None:
    """What the config implies; None where there is no config to ask."""
    if configuration.config is None or configuration.family is None:
        return None
    return configuration.family.expectations(configuration.config)


def settle(configuration: Configuration, held: Callable[[Expectations], Inventory]) -> Configuration:
    """The configuration as the loader reads it that the tensors suit best, where loaders read it differently.

    They differ on two lists of exempt modules that differ, on two dtypes that differ, and on no dtype at all.
    `held` is what there is, for whoever expects something.
    """
    config, family = configuration.config, configuration.family
    if config is None or family is None:
        return configuration
    best, least = config, None
    for reading in config.readings():
        expectations = family.expectations(reading)
        inventory = held(expectations)
        faults = match(inventory, expectations, take_census(inventory, expectations)).faults
        if least is None or faults < least:
            best, least = reading, faults
        if not faults:
            break
    return configuration if best is config else replace(configuration, config=best)


def facts_of(
    inventory: Inventory,
    config_file: ConfigFile,
    configuration: Configuration,
    expectations: Expectations | None,
    census: Census,
    limits: Limits,
) -> dict[str, Any]:
    """Every fact by the name that rules ask for it, but the policy; Blocked where it cannot be had."""
    facts: dict[str, Any] = {
        "inventory": inventory,
        "config_file": config_file,
        "family": configuration.family.name if configuration.family else Blocked(_no_config(configuration)),
        "index": inventory.index or Blocked("the checkpoint has no index"),
        "index_file": inventory.index or Blocked("the checkpoint has no index"),
        "listing": inventory.entries if inventory.listed else Blocked("the source cannot list its files"),
        "config_fields": Blocked(_no_config(configuration)) if configuration.fields is None else configuration.fields,
        "naming": Naming(),
        "differences": Differences(inventory, expectations),
        "foreign_format": configuration.foreign,
        **config_facts(config_file, configuration),
        **structure_facts(inventory, config_file, configuration),
    }
    index = inventory.index
    if index is not None and index.state == "unread":
        facts["index_file"] = Blocked("the index was not read")
    if index is not None and index.state != "read" and not index.weight_map:
        facts["index"] = Blocked(
            "the index was not read" if index.state == "unread" else "the index is not well formed"
        )
    config, family = configuration.config, configuration.family
    if config is None or family is None or expectations is None:
        blocked = Blocked(_no_config(configuration))
        derived = (
            "config",
            "quantization",
            "quantised_by",
            "expected_architectures",
            "expectations",
            "match",
            "corrections",
            "unmatched_exclusions",
            *CAUSES,
        )
        # How another format pairs weights with scales is not known, and without a family any format may be.
        alone = family is not None and not family.expects
        pairing = pair(inventory) if configuration.foreign is None and not alone else blocked
        facts |= {"census": census, "pairing": pairing, **dict.fromkeys((*derived, "tally", "figures"), blocked)}
        if family is not None and family.expects and configuration.fields is not None:
            facts["other_family"] = named_as_another(inventory, family)
        return facts
    matched = match(inventory, expectations, census)
    tally = count.tally(inventory, expectations, census)
    implied = {name: expected or 0 for name, (expected, _) in tally.components.items()}
    counts = count.conventions(implied, tally.expected_scale_elements or 0, config, family.apart)
    return {
        **facts,
        "census": census,
        "pairing": pair(inventory, expectations, matched),
        "config": config,
        "quantization": config.quantization_config or _undeclared(config),
        "quantised_by": _quantised_by(config, expectations),
        "naming": expectations.naming,
        "expected_architectures": family.architectures,
        "expectations": expectations,
        "unmatched_exclusions": unmatched_exclusions(config, expectations),
        **explain(inventory, configuration, expectations, matched, limits),
        "tally": tally,
        "figures": count.figures(config, family, counts),
    }


def _undeclared(config: ModelConfig) -> Blocked:
    return Blocked(f"config.json declares no {'quantisation' if config.export is None else 'FP8 blocks'}")


def _quantised_by(config: ModelConfig, expectations: Expectations) -> str | Blocked:
    """What makes weights be in fewer bits, as a message names it."""
    if config.quantization_config is not None:
        return f"quant_method {config.quantization_config.quant_method}"
    kinds = {row.quantiser.kind for row in expectations.layers_of if row.quantiser is not None}
    return listed(sorted(kinds)) if kinds else Blocked("config.json declares no quantisation")


def config_facts(file: ConfigFile, configuration: Configuration) -> dict[str, Any]:
    """The faults of config.json, for each group of rules that could look for them."""
    faults = configuration.faults
    kinds = {fault.kind for fault in faults}
    names = ("config_faults", "document_faults", "field_faults", "agreement_faults")
    facts: dict[str, Any] = dict.fromkeys(names, faults)
    family = configuration.family
    if (
        family is not None
        and not family.expects
        and file.state in ("absent", "read")
        and not configuration.over_limit
        and all(fault.file != CONFIG for fault in faults)
    ):
        if faults:  # of what declares the quantisation beside config.json
            return {**facts, "agreement_faults": Blocked("the quantisation that is declared cannot be read")}
        absent = file.state == "absent"
        blocked, first = Blocked("config.json need not be there" if absent else ALONE), 0 if absent else 2
    elif file.state == "unread":
        blocked, first = Blocked("config.json was not read"), 0
    elif file.state == "absent":
        blocked, first = Blocked("config.json is missing"), 1
    elif configuration.fields is None and configuration.over_limit:
        blocked, first = Blocked("config.json exceeds a limit"), 1
    elif configuration.fields is None:
        blocked, first = Blocked("config.json is malformed"), 2
    elif family is None and not faults:
        blocked, first = Blocked("no family knows the model_type"), 2
    elif kinds & {"invalid-config-field", "invalid-quantization-config"}:
        blocked, first = Blocked("config.json has fields of no valid value"), 3
    else:
        return facts
    return {**facts, **dict.fromkeys(names[first:], blocked)}


def explain(
    inventory: Inventory, configuration: Configuration, expectations: Expectations, matched: Match, limits: Limits
) -> dict[str, Any]:
    """What accounts for many disagreements at once, and the fields that what is left of them contradicts."""
    if matched.unexpected:
        matched = replace(matched, named_as=named_as(inventory.tensors, expectations.names))
    found, left = causes_of(inventory, expectations, matched)
    names_by_cause = {name: {each for cause in causes for each in cause.explains} for name, causes in found.items()}
    there = set().union(*(names for cause, names in names_by_cause.items() if cause not in ("lost", "exported")))
    facts = {**found, "match": matched.present(there) if there else matched, "corrections": ()}
    if left.faults < 2:
        return facts
    config, family = configuration.config, configuration.family
    assert config is not None
    assert family is not None
    every = frozenset().union(*names_by_cause.values())
    return {**facts, "corrections": infer(inventory, config, family, left, limits, every)}


def unjudged(configuration: Configuration, inventory: Inventory) -> list[Unread]:
    """Why nothing follows from config.json; of an unknown model_type with the families that the names tell."""
    unsupported, over_limit = configuration.unsupported, configuration.over_limit
    if unsupported is not None and configuration.family is None:
        told = named_as(inventory.tensors, ())
        names = f"; the tensors are named as in {' and '.join(told.families)}" if told is not None else ""
        unsupported = Unread(f"{unsupported}{names}", unsupported.code)
    return [each for each in (unsupported, over_limit) if each is not None]


def unread_formats(facts: dict[str, Any]) -> list[Unread]:
    """The formats of weights that nothing declares: what these weights hold is not audited."""
    if isinstance(facts["config"], Blocked) or not isinstance(facts["quantization"], Blocked):
        return []
    return [
        Unread(f"{plural(each.count, 'weight')} are {each.format}, which nothing declares", "unsupported")
        for each in facts["packed"]
    ]


# Why nothing is expected where no family is asked.
ALONE = "the audit is of structure alone"


def _no_config(configuration: Configuration) -> str:
    if configuration.family is not None and not configuration.family.expects:
        return ALONE
    if configuration.foreign:
        return "no family reads the quantisation"
    if configuration.unsupported:
        return "no family knows the model_type"
    if configuration.over_limit:
        return "config.json was not read or exceeds a limit"
    if configuration.fields is None and configuration.faults:
        return f"config.json is {'missing' if configuration.faults[0].kind == 'missing-config' else 'malformed'}"
    return "config.json is invalid"


def count_subjects(facts: dict[str, Any]) -> dict[str, int]:
    """How many subjects of each kind there are for a rule to look at."""
    inventory: Inventory = facts["inventory"]
    index = inventory.index
    expectations = facts["expectations"]
    derived = not isinstance(expectations, Blocked)
    pairing = facts["pairing"]
    return {
        "config fields": len(facts["config"].model_dump()) if derived else 0,
        "shards": len(inventory.shards),
        "files": len(inventory.entries),
        "index files": len(index.files) if index is not None else 0,
        "index entries": len(index.weight_map) if index is not None else 0,
        "tensors": inventory.stored,
        "expected tensors": expectations.size if derived else 0,
        "layers": sum(len(template.layers) for template in expectations.templates) if derived else 0,
        "MTP modules": len(expectations.mtp_layers) if derived else 0,
        "FP8 weights": 0 if isinstance(pairing, Blocked) else pairing.scaled + len(pairing.unscaled),
        "scales": 0 if isinstance(pairing, Blocked) else pairing.scaled + len(pairing.orphans),
        "components": 0 if isinstance(facts["tally"], Blocked) else len(facts["tally"].components),
        "families": 0 if isinstance(facts["family"], Blocked) else 1,
        "figures": 0 if isinstance(facts["figures"], Blocked) else len(facts["figures"]),
        **count_structure(facts),
        **value_facts.count_value_subjects(facts["probes"], facts["declared_digests"], facts["config"]),
    }
