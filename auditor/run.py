"""Composes the stages into one audit: reads, derives, applies every rule, attributes, decides, reports."""

import hashlib
import time
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, date, datetime
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from auditor.comparison import count, value_facts
from auditor.comparison import value_groups as values
from auditor.comparison.derive import examined, expectations_of, facts_of, settled, unread_formats
from auditor.comparison.match import CensusTaker
from auditor.comparison.parallel import expert_parallelism, parallelism, pipeline_parallelism
from auditor.comparison.records import Match
from auditor.content import Reading, check_extra
from auditor.content.probes import Content, Probes
from auditor.errors import SourceError, UsageError
from auditor.families.configure import Configuration
from auditor.families.expectations import Expectations
from auditor.format.files import INDEX
from auditor.inventory.facts import Blocked, Inventory
from auditor.inventory.walk import Progress
from auditor.opening import opened
from auditor.reporting import summary
from auditor.reporting.storage import storage
from auditor.rules import RuleModule, catalogue
from auditor.sources import Source, Symlinks
from auditor.text import quoted, shown
from auditor.verdict import gate
from auditor.verdict.apply import applied
from auditor.verdict.attribute import Attributed, traced
from auditor.verdict.gate import FailOn
from auditor.version import __version__
from auditor_schemas.policy import DEFAULT_POLICY, Policy
from auditor_schemas.report import AuditReport, Digest, RuleOutcome, Run, Tool
from auditor_schemas.report import Source as ReportSource

if TYPE_CHECKING:
    from auditor.verdict.baseline import Baseline
    from auditor.verdict.judge import Judgement


def audit(
    source: str | PathLike[str],
    *,
    depth: Literal["headers", "sample", "full"] = "headers",
    family: str | None = None,
    policy: Policy | str | PathLike[str] | None = None,
    baseline: str | PathLike[str] | None = None,
    symlinks: Symlinks | None = None,
    fail_on: FailOn = "error",
    progress: Progress | None = None,
    reading: Reading | None = None,
    revision: str | None = None,
    cache: bool = True,
) -> AuditReport:
    """Audit a checkpoint and report everything that was found.

    `source` is a folder with config.json and shards, or a checkpoint at hf://, s3://, gs://, az:// or https://,
    of which only what the depth asks for is fetched. `revision` is the hub's branch, tag or commit; `cache` keeps
    headers that were fetched, for this user alone. `depth` sample and full also read tensor bytes (extra
    `content`); `reading` then says how. `family` forces a model family whatever model_type says. `policy` is a
    Policy or the path of a TOML file. `baseline` is the path of a report whose findings do not gate again.
    `symlinks` outranks the policy's. `progress(done, total)` is called per shard.
    Raises UsageError for arguments that cannot be, SourceError where there is nothing to audit; damage
    is never an exception.
    """
    return conduct(
        str(source),
        reading=_reading(depth, reading),
        family=family,
        policy=policy,
        baseline=baseline,
        symlinks=symlinks,
        fail_on=fail_on,
        progress=progress,
        revision=revision,
        cache=cache,
    )


def _reading(depth: str, reading: Reading | None) -> Reading | None:
    if depth not in ("headers", "sample", "full"):
        raise UsageError(f"depth {quoted(depth)}: choose headers, sample or full")
    if depth == "headers":
        return None
    return replace(reading or Reading(depth="full"), depth=depth)  # type: ignore[arg-type]  # one of the two


def conduct(
    source: str | Source,
    *,
    reading: Reading | None,
    family: str | None,
    policy: Policy | str | PathLike[str] | None,
    fail_on: FailOn,
    progress: Progress | None,
    baseline: str | PathLike[str] | None = None,
    symlinks: Symlinks | None = None,
    revision: str | None = None,
    cache: bool = True,
    read: Inventory | None = None,
    summarised: bool = True,
) -> AuditReport:
    """An audit of a source, by name or opened, which this closes.

    `read`: its inventory, where it has been read. `reading` None is depth headers. `summarised`:
    with what only a saved report shows, storage and parallelism.
    """
    depth = "headers" if reading is None else reading.depth
    if reading is not None:
        check_extra(reading.depth)
    if fail_on not in ("error", "warning", "never"):
        raise UsageError(f"fail_on {quoted(fail_on)}: choose error, warning or never")
    started, clock = datetime.now(UTC), time.perf_counter()
    rules, digest = _policy(policy, symlinks)
    known = _baseline(baseline, depth, rules)
    with opened(
        source, rules.limits, family=family, symlinks=rules.symlinks, revision=revision, cache=cache
    ) as checkpoint:
        config_file = checkpoint.config_file
        # All that the headers are no part of comes first: what a remote source fetches ahead arrives meanwhile.
        configuration = checkpoint.configuration()
        if known is not None and configuration.family is not None:
            known.refuse_other_family(configuration.family.name)
        expectations = expectations_of(configuration)
        modules = _with_severities(catalogue(), rules)
        taker = CensusTaker(expectations)
        summary.prepare()
        inventory = checkpoint.inventory(progress, seen=taker.add) if read is None else read
        if (
            config_file.state == "absent"
            and not any(entry.kind == "broken-link" for entry in inventory.entries.values())
            and not inventory.shards
            and INDEX not in inventory.entries
            and not inventory.unread
        ):
            raise SourceError(
                f"{checkpoint.source.uri}: nothing to audit: no config.json, no index and no *.safetensors file"
            )
        declared, configuration = configuration, settled(configuration, lambda _: inventory)
        if configuration is not declared:
            expectations = expectations_of(configuration)
            taker = CensusTaker(expectations)
        content = None
        if reading is not None and not inventory.cancelled:
            try:
                content = _content(checkpoint.source, inventory, configuration, expectations, reading)
            except KeyboardInterrupt:  # before anything was read: the headers' report stands
                content = None
    facts = facts_of(inventory, config_file, configuration, expectations, taker.census(inventory), rules)
    facts |= value_facts.content_facts(_read(content, reading), values.declared(inventory))
    failures, outcomes = applied(modules, facts, examined(facts))
    found = traced(failures, inventory)
    judged = _judged(found, outcomes, rules, known, inventory, started.date())
    findings = tuple(each.finding for each in found) if judged is None else judged.findings
    reasons = [*inventory.unread, *(content.unread if content is not None else ())]
    if reading is not None and content is None:
        reasons.append("cancelled before tensor data was read")
    probes = content.probes if content is not None else None
    reasons.extend(reason for reason in (configuration.unsupported, configuration.over_limit) if reason)
    reasons.extend(unread_formats(facts))
    reasons.extend(f"{each.rule} {each.slug} crashed: {each.reason}" for each in outcomes if each.outcome == "errored")
    # Two readers may stumble over the same file: that it changed is said once.
    incomplete = tuple(dict.fromkeys(reasons))
    matched = facts["match"] if isinstance(facts["match"], Match) else None
    inventory_summary = summary.inventory_summary(inventory, facts["census"])
    coverage = summary.coverage(inventory, incomplete, probes)
    blocks = summary.fp8_blocks(facts["census"], configuration.config)
    unmet = gate.unmet(rules.require, depth, coverage, payload_bytes=inventory_summary.payload_bytes, fp8_blocks=blocks)
    verdict = gate.decide(findings, incomplete, fail_on, unmet)
    if verdict == "passed" and isinstance(facts["expectations"], Blocked):
        # What would be wrong with the tensors nobody can say: no severity, waiver or baseline makes that a pass.
        unmet.append(f"nothing was expected of the tensors: {facts['expectations'].reason}")
        verdict = gate.decide(findings, incomplete, fail_on, unmet)
    layout, unlisted = summary.layout(inventory, expectations, matched, facts["census"])
    cells, uncelled = summary.cells(expectations, matched, failures)
    tally = count.tally(inventory, None, facts["census"]) if isinstance(facts["tally"], Blocked) else facts["tally"]
    return AuditReport(
        tool=Tool(name="auditor", version=__version__),
        source=ReportSource(
            uri=_shown_uri(checkpoint.source),
            revision=checkpoint.source.revision,
            fingerprint=summary.fingerprint(inventory, config_file),
            versioned=checkpoint.source.versioned,
        ),
        run=Run(
            depth=depth,
            seed=probes.seed if probes is not None else None,
            device=probes.device if probes is not None else None,
            engine="local",
            started_at=started,
            duration_s=round(time.perf_counter() - clock, 3),
            resumed_shards=content.resumed if content is not None else None,
        ),
        family=configuration.family.name if configuration.family else None,
        verdict=verdict,
        incomplete=incomplete,
        fail_on=fail_on,
        policy=Digest(sha256=digest) if digest else None,
        baseline=Digest(sha256=known.sha256) if known is not None and known.sha256 else None,
        unmet=tuple(unmet),
        waivers=() if judged is None else judged.waivers,
        gone=() if judged is None else judged.gone,
        outcomes=tuple(outcomes),
        findings=findings,
        figures=() if isinstance(facts["figures"], Blocked) else facts["figures"],
        inventory=inventory_summary,
        layout=layout,
        cells=cells,
        left_out={name: more for name, more in (("layout", unlisted), ("cells", uncelled)) if more},
        tallies=summary.tallies(tally),
        coverage=coverage,
        **_evidence(content),
        **(_summaries(inventory, expectations, configuration, facts) if summarised else {"parallelism": ()}),
    )


def _summaries(
    inventory: Inventory, expectations: Expectations | None, configuration: Configuration, facts: dict[str, Any]
) -> dict[str, Any]:
    """What the bytes of the checkpoint, and those that the config implies, are where and on how many machines."""
    stored = storage(inventory, expectations, facts["census"])
    config = configuration.config
    if config is None or expectations is None:
        return {"storage": stored, "parallelism": ()}
    return {
        "storage": stored,
        "parallelism": parallelism(config, expectations),
        "expert_parallelism": expert_parallelism(config, expectations),
        "pipeline_parallelism": pipeline_parallelism(config, expectations),
    }


def _content(
    source: Source,
    inventory: Inventory,
    configuration: Configuration,
    expectations: Expectations | None,
    reading: Reading,
) -> Content:
    """What the bytes of tensors say; the libraries that read them are imported for it alone."""
    from auditor.content.plan import Blocks
    from auditor.content.read import read_content

    quantization = configuration.config.quantization_config if configuration.config is not None else None
    blocks = None
    if quantization is not None and quantization.weight_block_size is not None:
        rows, columns = quantization.weight_block_size
        blocks = Blocks((rows, columns), quantization.scale_fmt == "ue8m0")
    mtp_layers = expectations.mtp_layers if expectations is not None else ()
    return read_content(source, inventory, blocks, reading, mtp_layers=mtp_layers)


def _read(content: Content | None, reading: Reading | None) -> Probes | Blocked:
    """What was read of tensor data, or why nothing was."""
    if content is not None:
        return content.probes
    return values.NOT_READ if reading is None else Blocked("cancelled before tensor data was read")


def _evidence(content: Content | None) -> dict[str, Any]:
    """The report's part about values, where content was read."""
    if content is None:
        return {}
    from auditor.reporting import evidence

    return {"probes": evidence.probes(content.probes), "content_digest": evidence.content_digest(content.probes)}


def _baseline(baseline: str | PathLike[str] | None, depth: str, policy: Policy) -> "Baseline | None":
    if baseline is None:
        return None
    from auditor.reporting.saved import read_digested
    from auditor.verdict.baseline import baseline_of

    try:
        report, digest = read_digested(baseline)
    except (SourceError, UsageError) as error:
        raise UsageError(f"baseline {error}") from error
    name = f"baseline {shown(str(baseline))}"
    return baseline_of(report, name=name, sha256=digest, depth=depth, most=policy.limits.tensors)


def _with_severities(rules: Sequence[RuleModule], policy: Policy) -> Sequence[RuleModule]:
    """The rules with the severities that the policy gives them: what explains what follows from these."""
    if not policy.severity:
        return rules
    from auditor.verdict.policy import rule_named

    known = [module.rule for module in rules]
    chosen = {rule.id: severity for name, severity in policy.severity.items() if (rule := rule_named(name, known))}
    return [
        RuleModule(module.rule.model_copy(update={"severity": chosen[module.rule.id]}), module.check, module.needs)
        if module.rule.id in chosen
        else module
        for module in rules
    ]


def _judged(
    found: Sequence[Attributed],
    outcomes: Sequence[RuleOutcome],
    policy: Policy,
    baseline: "Baseline | None",
    inventory: Inventory,
    today: date,
) -> "Judgement | None":
    """What waivers and baseline make of the findings; None where there are neither."""
    if baseline is None and not policy.waivers:
        return None
    from auditor.verdict.judge import judge
    from auditor.verdict.policy import rule_named
    from auditor.verdict.waive import Files, Waivers

    known = [module.rule for module in catalogue()]
    pairs = [(waiver, rule) for waiver in policy.waivers if (rule := rule_named(waiver.rule, known))]
    return judge(
        found,
        outcomes,
        waivers=Waivers(tuple(pairs), today),
        baseline=baseline,
        files=Files([(shard.path, shard.tensors) for shard in inventory.parts], inventory.index),
    )


def _shown_uri(source: Source) -> str:
    """The source without what only concerns this machine: the last component of an absolute local path.

    Bytes of a path that are no text become escapes: a report is UTF-8.
    """
    if source.remote:
        return source.uri
    path = Path(source.uri)
    uri = path.name if path.is_absolute() and path.name else source.uri
    return uri.encode("utf-8", "backslashreplace").decode()


def _policy(policy: Policy | str | PathLike[str] | None, symlinks: Symlinks | None) -> tuple[Policy, str | None]:
    """The policy, with symlinks as the caller wants them, and the SHA-256 of its file."""
    digest = None
    if policy is None:
        policy = DEFAULT_POLICY
    else:
        from auditor.verdict.policy import check_policy, read_policy  # costs more than a default policy is worth

        if isinstance(policy, Policy):
            check_policy(policy, catalogue())
            digest = hashlib.sha256(policy.model_dump_json().encode()).hexdigest()
        else:
            policy, digest = read_policy(policy, catalogue())
    if symlinks is not None and symlinks != policy.symlinks:
        policy = policy.model_copy(update={"symlinks": symlinks})
    return policy, digest
