"""Composes the stages into one audit: reads, derives, applies every rule, attributes, decides, reports."""

import gc
import hashlib
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from datetime import UTC, datetime
from os import PathLike
from pathlib import Path
from typing import Any, Literal

from pydantic import ValidationError

from auditor import count, gate, summary
from auditor.attribute import attribute
from auditor.configure import Configuration, configure
from auditor.errors import SourceError, UsageError
from auditor.facts import Blocked, ConfigFile, Expectations, Inventory, Match
from auditor.families import family_named
from auditor.gate import FailOn
from auditor.infer import infer
from auditor.match import match, pair, take_census
from auditor.parallel import parallelism
from auditor.rules import RuleModule, catalogue
from auditor.sources import Source, open_source
from auditor.text import quoted
from auditor.version import __version__
from auditor.walk import INDEX, Progress, begin, read_config, walk
from auditor_schemas.policy import DEFAULT_POLICY, Limits, Policy
from auditor_schemas.report import AuditReport, Digest, RuleOutcome, Run, Tool
from auditor_schemas.report import Source as ReportSource
from auditor_schemas.rule import Failure


def audit(
    source: str | PathLike[str],
    *,
    depth: Literal["headers"] = "headers",
    family: str | None = None,
    policy: Policy | str | PathLike[str] | None = None,
    fail_on: FailOn = "error",
    progress: Progress | None = None,
    revision: str | None = None,
    cache: bool = True,
) -> AuditReport:
    """Audit a checkpoint and report everything that was found.

    `source` is a folder with config.json and shards, or a checkpoint at hf://, s3://, gs://, az:// or https://,
    of which only headers are fetched. `revision` is the hub's branch, tag or commit; `cache` keeps headers that
    were fetched, for this user alone. `family` forces a model family whatever model_type
    says. `policy` is a Policy or the path of a TOML file. `progress(done, total)` is called per shard.
    Raises UsageError for arguments that cannot be, SourceError where there is nothing to audit; damage
    is never an exception.
    """
    with collector_paused():
        return conduct(
            str(source),
            depth=depth,
            family=family,
            policy=policy,
            fail_on=fail_on,
            progress=progress,
            revision=revision,
            cache=cache,
        )


@contextmanager
def collector_paused() -> Iterator[None]:
    """An audit allocates much and makes no cycles to speak of: collecting in between doubles its time."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


def conduct(
    source: str | Source,
    *,
    depth: str,
    family: str | None,
    policy: Policy | str | PathLike[str] | None,
    fail_on: FailOn,
    progress: Progress | None,
    revision: str | None = None,
    cache: bool = True,
    walked: Callable[[], Inventory | None] | None = None,
) -> AuditReport:
    """An audit of a source, by name or opened, which this closes.

    Its walk may have been done already: `walked` gives the inventory, or None where that failed.
    """
    if depth != "headers":
        raise UsageError(f"depth {quoted(depth)}: this version audits at depth headers")
    if fail_on not in ("error", "warning", "never"):
        raise UsageError(f"fail_on {quoted(fail_on)}: choose error, warning or never")
    started, clock = datetime.now(UTC), time.perf_counter()
    rules, digest = _policy(policy)
    forced = family_named(family) if family is not None else None
    if isinstance(source, str):
        source = open_source(source, symlinks=rules.symlinks, revision=revision, cache=cache)
    with closing(source) as opened:
        if opened.remote:
            begin(opened, rules.limits)
        config_file = read_config(opened, rules.limits)
        # All that the headers are no part of comes first: a walk under way elsewhere needs the time.
        configuration = configure(config_file, rules.limits, family=forced)
        expectations = _expectations(configuration)
        modules = catalogue()
        inventory = walked() if walked is not None else None
        if inventory is None:
            inventory = walk(opened, rules.limits, progress)
    if (
        config_file.state == "absent"
        and not inventory.shards
        and INDEX not in inventory.entries
        and not inventory.unread
    ):
        raise SourceError(f"{opened.uri}: nothing to audit: no config.json, no index and no *.safetensors file")
    facts = _facts(inventory, config_file, configuration, expectations, rules)
    failures, outcomes = _apply(modules, facts, _examined(facts))
    findings = attribute(failures, inventory)
    incomplete = [*inventory.unread]
    incomplete.extend(reason for reason in (configuration.unsupported, configuration.over_limit) if reason)
    incomplete.extend(
        f"{each.rule} {each.slug} crashed: {each.reason}" for each in outcomes if each.outcome == "errored"
    )
    matched = facts["match"] if isinstance(facts["match"], Match) else None
    tally = count.tally(inventory, None, facts["census"]) if isinstance(facts["tally"], Blocked) else facts["tally"]
    return AuditReport(
        tool=Tool(name="auditor", version=__version__),
        source=ReportSource(
            uri=_shown_uri(opened),
            revision=opened.revision,
            fingerprint=summary.fingerprint(inventory, config_file),
        ),
        run=Run(
            depth="headers",
            seed=None,
            device=None,
            engine="local",
            started_at=started,
            duration_s=round(time.perf_counter() - clock, 3),
        ),
        family=configuration.family.name if configuration.family else None,
        verdict=gate.decide(findings, incomplete, fail_on),
        incomplete=tuple(incomplete),
        fail_on=fail_on,
        policy=Digest(sha256=digest) if digest else None,
        baseline=None,
        outcomes=tuple(outcomes),
        findings=findings,
        figures=() if isinstance(facts["figures"], Blocked) else facts["figures"],
        inventory=summary.inventory_summary(inventory, facts["census"]),
        layout=summary.layout(inventory, expectations, matched, facts["census"]),
        cells=summary.cells(expectations, matched, failures),
        parallelism=parallelism(configuration.config, expectations) if configuration.config and expectations else (),
        tallies=summary.tallies(tally),
        coverage=summary.coverage(inventory, incomplete),
    )


def _config_faults(file: ConfigFile, configuration: Configuration) -> dict[str, Any]:
    """The faults of config.json, for each group of rules that could look for them."""
    faults = configuration.faults
    kinds = {fault.kind for fault in faults}
    names = ("config_faults", "document_faults", "field_faults", "agreement_faults")
    facts: dict[str, Any] = dict.fromkeys(names, faults)
    if file.state == "unread":
        blocked, first = Blocked("config.json was not read"), 0
    elif file.state == "absent":
        blocked, first = Blocked("config.json is missing"), 1
    elif configuration.fields is None:
        blocked, first = Blocked("config.json is malformed"), 2
    elif configuration.family is None and not faults:
        blocked, first = Blocked("no family knows the model_type"), 2
    elif kinds & {"invalid-config-field", "invalid-quantization-config"}:
        blocked, first = Blocked("config.json has fields of no valid value"), 3
    else:
        return facts
    return {**facts, **dict.fromkeys(names[first:], blocked)}


def _expectations(configuration: Configuration) -> Expectations | None:
    """What the config implies, its names spelled out; None where there is no config to ask."""
    if configuration.config is None or configuration.family is None:
        return None
    expectations = configuration.family.expectations(configuration.config)
    _ = expectations.names
    return expectations


def _shown_uri(source: Source) -> str:
    """The source without what only concerns this machine: the last component of an absolute local path."""
    if source.remote:
        return source.uri
    path = Path(source.uri)
    return path.name if path.is_absolute() and path.name else source.uri


def _policy(policy: Policy | str | PathLike[str] | None) -> tuple[Policy, str | None]:
    """The policy and the SHA-256 of its file."""
    if policy is None:
        return DEFAULT_POLICY, None
    if isinstance(policy, Policy):
        return policy, hashlib.sha256(policy.model_dump_json().encode()).hexdigest()
    import tomllib  # costs more than a default policy is worth

    path = Path(policy)
    try:
        data = path.read_bytes()
        return Policy.model_validate(tomllib.loads(data.decode())), hashlib.sha256(data).hexdigest()
    except OSError as error:
        raise UsageError(f"policy {path}: {error.strerror}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise UsageError(f"policy {path}: not TOML: {error}") from error
    except ValidationError as error:
        faults = (f"{'.'.join(map(str, each['loc']))}: {each['msg'].lower()}" for each in error.errors())
        raise UsageError(f"policy {path}: {'; '.join(faults)}") from error


def _facts(
    inventory: Inventory,
    config_file: ConfigFile,
    configuration: Configuration,
    expectations: Expectations | None,
    policy: Policy,
) -> dict[str, Any]:
    """Every fact by the name that rules ask for it; Blocked where it cannot be had."""
    facts: dict[str, Any] = {
        "inventory": inventory,
        "policy": policy,
        "config_file": config_file,
        "index": inventory.index or Blocked("the checkpoint has no index"),
        "index_file": inventory.index or Blocked("the checkpoint has no index"),
        "listing": inventory.entries if inventory.listed else Blocked("the source cannot list its files"),
        **_config_faults(config_file, configuration),
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
        derived = ("config", "quantization", "expected_architectures", "expectations", "match", "corrections")
        facts |= {"census": take_census(inventory, None), "pairing": pair(inventory)}
        return {**facts, **dict.fromkeys((*derived, "tally", "figures"), blocked)}
    census = take_census(inventory, expectations)
    matched = match(inventory, expectations, census)
    tally = count.tally(inventory, expectations, census)
    implied = {name: expected or 0 for name, (expected, _) in tally.components.items()}
    counts = count.conventions(implied, tally.expected_scale_elements or 0, config)
    return {
        **facts,
        "census": census,
        "pairing": pair(inventory, expectations, matched),
        "config": config,
        "quantization": config.quantization_config or Blocked("config.json declares no quantisation"),
        "expected_architectures": family.architectures,
        "expectations": expectations,
        "match": matched,
        "corrections": _corrections(inventory, configuration, matched, policy.limits),
        "tally": tally,
        "figures": count.figures(config, family, counts),
    }


def _corrections(inventory: Inventory, configuration: Configuration, matched: Match, limits: Limits) -> Any:
    """Contradicted fields; not asked for where all that is wrong are tensors of shards that were not read."""
    config, family = configuration.config, configuration.family
    assert config is not None
    assert family is not None
    index = inventory.index.weight_map if inventory.index is not None else {}
    read = {shard.path for shard in inventory.parts if shard.state == "read"}
    only_lost = not (matched.unexpected or matched.misshapen) and all(
        index.get(name) not in read for name in matched.missing
    )
    if matched.faults < 2 or (only_lost and index):
        return ()
    return infer(inventory, config, family, matched, limits)


def _no_config(configuration: Configuration) -> str:
    if configuration.unsupported:
        return "no family knows the model_type"
    if configuration.over_limit:
        return "config.json was not read or exceeds a limit"
    if configuration.fields is None and configuration.faults:
        return f"config.json is {'missing' if configuration.faults[0].kind == 'missing-config' else 'malformed'}"
    return "config.json is invalid"


def _examined(facts: dict[str, Any]) -> dict[str, int]:
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
        "expected tensors": len(expectations.names) if derived else 0,
        "layers": sum(len(template.layers) for template in expectations.templates) if derived else 0,
        "MTP modules": len(expectations.mtp_layers) if derived else 0,
        "FP8 weights": pairing.scaled + len(pairing.unscaled),
        "scales": pairing.scaled + len(pairing.orphans),
        "components": 0 if isinstance(facts["tally"], Blocked) else len(facts["tally"].components),
        "figures": 0 if isinstance(facts["figures"], Blocked) else len(facts["figures"]),
    }


def _apply(
    rules: Sequence[RuleModule], facts: dict[str, Any], examined: dict[str, int]
) -> tuple[list[Failure], list[RuleOutcome]]:
    """Every rule's failures and outcome. A rule that crashes is errored and takes no other with it."""
    failures: list[Failure] = []
    outcomes: list[RuleOutcome] = []
    for module in rules:
        rule = module.rule
        outcome: Literal["passed", "failed", "not_applicable", "errored"] = "passed"
        reason = next((facts[name].reason for name in module.needs if isinstance(facts[name], Blocked)), None)
        looked_at = 0 if reason is not None else examined[rule.examines]
        if reason is not None:
            outcome = "not_applicable"
        else:
            try:
                found = list(module.check(**{name: facts[name] for name in module.needs}))
            except Exception as error:  # the runner answers for a rule that crashes
                outcome, reason = "errored", f"{type(error).__name__}: {error}"
            else:
                failures.extend(found)
                outcome = "failed" if found else "passed"
        outcomes.append(
            RuleOutcome(
                rule=rule.id,
                slug=rule.slug,
                title=rule.title,
                severity=rule.severity,
                outcome=outcome,
                reason=reason,
                examined=looked_at,
            )
        )
    return failures, outcomes
