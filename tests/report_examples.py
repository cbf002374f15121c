"""Reports as audits would write them, sound, broken, incomplete, with content, and with names made to harm."""

import hashlib
import random
from datetime import UTC, date, datetime
from functools import cache
from typing import Any

from auditor_schemas.content import (
    ContentDigest,
    FunctionalCheck,
    ProbeGroup,
    Probes,
    RoundTrip,
    ScaleProbe,
    ShardDigest,
    TensorProbe,
)
from auditor_schemas.figures import ComponentTally, Count, Figure, Tallies
from auditor_schemas.finding import Finding, Location, Waiver
from auditor_schemas.inventory import ComponentBytes, DistantScales, InventorySummary, LayoutRow, ShardSummary, Storage
from auditor_schemas.parallelism import (
    EvenSplit,
    ExpertParallelism,
    Parallelism,
    PipelineParallelism,
    Stage,
    UnevenSplit,
)
from auditor_schemas.report import AuditReport, Cell, Coverage, Digest, RuleOutcome, Run, Source, Tool
from auditor_schemas.rule import Severity

HOSTILE = "</script><img src=x onerror=alert(1)>\"'&\x1b[31m\u202egnp.exe\u2066\x00\u2028"
NAMES = (
    HOSTILE,
    "<script>document.title='owned'</script>",
    "::error file=x,line=1::owned",
    "\x1b]0;owned\x07\x1b[2J\x1b[31mred",
    "\u202egpj.exe\u2066isolate\u2069\u200f",
    "=cmd|' /C calc'!A0",
    "[click](javascript:alert(1)) **bold** `code` | table",
    "{{ 7 * 7 }} ${7*7} %s {0}",
    "&lt;b&gt; &amp; &#39;",
    "model.layers.3." + "a" * 4_000,
)
LAYER = "model.layers"
MODULES = {
    "attention": (0, 62), "dense_mlp": (0, 3), "router": (3, 62), "experts": (3, 62), "shared_experts": (3, 62),
    "norms": (0, 62), "mtp": (61, 62),
}  # fmt: skip
COMPONENTS = {
    "embedding": 926_679_040, "head": 926_679_040, "norms": 881_664, "attention": 11_413_422_080,
    "dense_mlp": 1_189_085_184, "router": 106_430_464, "router_bias": 14_848, "routed_experts": 653_908_770_816,
    "shared_experts": 2_554_331_136, "mtp_routed_experts": 11_274_289_152,
}  # fmt: skip


def fingerprint(seed: object) -> str:
    return hashlib.sha256(repr(seed).encode()).hexdigest()


def finding(rule: str, slug: str, severity: str, message: str, **more: Any) -> Finding:
    values: dict[str, Any] = {
        "location": Location(), "count": 1, "affected": (), "fingerprint": fingerprint((rule, message, str(more))),
    }  # fmt: skip
    return Finding(rule=rule, slug=slug, severity=Severity(severity), message=message, **(values | more))


def cells(worst: dict[tuple[int, str], tuple[str, int]] | None = None) -> tuple[Cell, ...]:
    top = [Cell(layer=None, module=m, worst="passed", counts={"expected": 1}) for m in ("embedding", "norms", "head")]
    for layer in range(62):
        for module, (begin, end) in MODULES.items():
            if begin <= layer < end:
                state, failing = (worst or {}).get((layer, module), ("passed", 0))
                counts = {"expected": 1536 if module == "experts" else 6}
                top.append(
                    Cell(layer=layer, module=module, worst=state, counts=counts | ({state: failing} if failing else {}))
                )
    return tuple(top)


def outcome(rule: str, slug: str, title: str, result: str, **more: Any) -> RuleOutcome:
    values = {"severity": Severity.ERROR, "reason": None, "examined": 91_991} | more
    return RuleOutcome(rule=rule, slug=slug, title=title, outcome=result, **values)


OUTCOMES = (
    outcome("CFG101", "missing-config", "There is no config.json", "passed", examined=1),
    outcome("HDR102", "truncated-shard", "A shard is shorter than its header says", "passed", examined=163),
    outcome("IDX103", "missing-shard", "The index names a file that is not there", "passed", examined=163),
    outcome("SHP101", "wrong-shape", "A tensor has another shape than the config implies", "passed"),
    outcome("VAL101", "invalid-scale", "A block scale is not finite and positive", "not_applicable", examined=0,
            reason="reads payload, and the depth is headers"),
)  # fmt: skip
FIGURES = (
    Figure(name="main model, total", published="671B", source="README_WEIGHTS", verdict="matches_rounded", counts=(
        Count(convention="main model, no scales", parameters=671_026_419_200, deviation_percent=0.004),)),
    Figure(name="main model, activated per token", published="36.7B", source="README_WEIGHTS", verdict="contradicted",
           note="no convention gives 36.7B", counts=(
        Count(convention="with embedding and head", parameters=37_552_297_472, deviation_percent=2.322),
        Count(convention="without the input embedding", parameters=36_625_618_432, deviation_percent=-0.203))),
    Figure(name="everything stored", published=None, source=None, verdict="not_applicable", counts=(
        Count(convention="stored, no scales", parameters=684_489_845_504, deviation_percent=None),)),
)  # fmt: skip

SPLITS = {
    "self_attn.q_b_proj.weight": (0, 24_576), "self_attn.o_proj.weight": (1, 16_384),
    "mlp.gate_proj.weight": (0, 18_432), "mlp.experts.{expert}.gate_proj.weight": (0, 2_048),
    "mlp.experts.{expert}.down_proj.weight": (1, 2_048),
}  # fmt: skip


def parallelism(size: int) -> Parallelism:
    even, uneven = [], []
    for pattern, (axis, length) in SPLITS.items():
        part = length // size
        if size > 1 and part % 128:
            reason = f"{part} is no multiple of the block's 128"
            uneven.append(UnevenSplit(pattern=pattern, axis=axis, size=length, partition=float(part), reason=reason))
        else:
            even.append(EvenSplit(pattern=pattern, axis=axis, size=length, partition=part))
    return Parallelism(
        tensor_parallel=size, clean=not uneven, uneven=tuple(uneven), even=tuple(even),
        bytes_per_rank=688_574_839_360 // size,
    )  # fmt: skip


def storage() -> Storage:
    shards = tuple(
        ShardSummary(file=f"model-{i:05}-of-000163.safetensors", bytes=6_817_000_000 if i == 163 else 4_302_000_000 + i,
                     header_bytes=75_000, tensors=586 if i % 11 else 120)
        for i in range(1, 164)
    )  # fmt: skip
    components = tuple(
        ComponentBytes(component=name, dtype="BF16" if name in ("embedding", "head", "norms", "router") else "F8_E4M3",
                       tensors=100, bytes=size)
        for name, size in COMPONENTS.items()
    )  # fmt: skip
    scales = ComponentBytes(component="routed_experts", dtype="F32", tensors=44_544, bytes=159_645_696)
    apart = DistantScales(
        weight_file=shards[0].file, scale_file=shards[1].file, count=1,
        weights=(f"{LAYER}.3.mlp.experts.32.up_proj.weight",),
    )  # fmt: skip
    return Storage(components=(*components, scales), shards=shards, distant_scales=(apart,))


def sound() -> AuditReport:
    """A sound release with notes alone."""
    return AuditReport(
        tool=Tool(name="auditor", version="0.1.0"),
        source=Source(uri="hf://deepseek-ai/DeepSeek-V3", revision="e815299b0bcbac849fa540c768ef21845365c9eb",
                      fingerprint=fingerprint("v3")),
        run=Run(depth="headers", seed=None, device=None, engine="local",
                started_at=datetime(2025, 1, 2, 3, 4, 5, tzinfo=UTC), duration_s=4.217),
        family="deepseek_v3", verdict="passed", incomplete=(), fail_on="error", policy=None, baseline=None,
        outcomes=OUTCOMES,
        findings=(
            finding("IDX110", "official-total-size", "info", "metadata.total_size is 2 × the element count",
                    location=Location(file="model.safetensors.index.json", field="metadata.total_size"),
                    expected=688_574_839_360, actual=1_369_062_772_000),
            finding("CNT102", "contradicted-published-figure", "info", "no convention gives the published 36.7B",
                    location=Location(field="main model, activated per token")),
        ),
        figures=FIGURES,
        inventory=InventorySummary(
            tensors=91_991, shards=163, elements=684_531_386_000, payload_bytes=688_574_839_360,
            file_bytes=688_586_727_753,
            by_dtype={"F8_E4M3": 680_571_043_840, "BF16": 3_918_786_560, "F32": 41_555_600}),
        layout=(
            LayoutRow(pattern="lm_head.weight", shape=(129280, 7168), dtype="BF16", count=1,
                      files=("model-00160-of-000163.safetensors",)),
            LayoutRow(pattern=f"{LAYER}.{{3-61}}.mlp.experts.{{0-255}}.down_proj.weight", shape=(7168, 2048),
                      dtype="F8_E4M3", count=15_104,
                      files=tuple(f"model-{{{a:05}-{a + 9:05}}}-of-000163.safetensors" for a in range(1, 160, 20))),
        ),
        cells=cells(),
        parallelism=tuple(parallelism(size) for size in (1, 2, 4, 8, 16, 32)),
        expert_parallelism=tuple(
            ExpertParallelism(expert_parallel=n, experts=256, fewest=256 // n, most=256 // n,
                              bytes_per_rank=23_233_383_424 + 665_341_455_936 // n)
            for n in (1, 2, 4, 8, 16, 32, 64, 128, 256)),
        pipeline_parallelism=tuple(
            PipelineParallelism(pipeline_parallel=n, stages=tuple(
                Stage(layers=(62 * i // n, 62 * (i + 1) // n), bytes=688_574_839_360 // n) for i in range(n)))
            for n in (1, 2, 4, 8, 16)),
        storage=storage(),
        tallies=Tallies(
            components=tuple(ComponentTally(component=c, from_config=n, from_headers=n) for c, n in COMPONENTS.items()),
            scale_elements=41_540_496, unclassified_elements=0),
        coverage=Coverage(payload_bytes_read=0, headers_read=163, shards=163, unread=()),
    )  # fmt: skip


def uneven() -> AuditReport:
    """Experts that not every number of ranks divides."""
    whole = sound()
    ranks = tuple(
        each.model_copy(update={"experts": 384, "fewest": 384 // n, "most": -(-384 // n)})
        for each, n in ((each, each.expert_parallel) for each in whole.expert_parallelism)
    )
    return whole.model_copy(update={"expert_parallelism": ranks})


def broken() -> AuditReport:
    """Damage of many kinds, with names made to harm whoever shows them; one finding waived, one known."""
    lost = (f"{LAYER}.{{17-18}}.mlp.experts.{{0-255}}.down_proj.weight", f"{LAYER}.18.self_attn.o_proj.weight")
    root = finding("IDX103", "missing-shard", "error", "is not there, the index places 513 tensors in it",
                   location=Location(file="model-00045-of-000163.safetensors"), expected="a safetensors file",
                   actual="no file", affected=lost,
                   cells="attention:18;experts:17-18/0-255")  # fmt: skip
    missing = finding("NAM101", "missing-tensor", "info", "is in no shard", caused_by=root.fingerprint, count=513,
                      affected=lost, cells="attention:18;experts:17-18/0-255")  # fmt: skip
    tally = finding("CNT101", "contradicted-count", "info", "headers hold 7,516,192,768 parameters fewer",
                    caused_by=missing.fingerprint, expected=671_026_419_200, actual=663_510_226_432)  # fmt: skip
    scale = finding("QNT102", "mismatched-block-scale", "error", "scale grid is (4, 56), needs (5, 56)",
                    location=Location(file="model-00001-of-000163.safetensors", bytes=(34_127, 35_023),
                                      tensor=f"{LAYER}.0.self_attn.kv_a_proj_with_mqa.weight_scale_inv"),
                    expected=(5, 56), actual=(4, 56), count=62,
                    affected=(f"{LAYER}.{{0-61}}.self_attn.kv_a_proj_with_mqa.weight_scale_inv",),
                    cells="attention:0-61")  # fmt: skip
    hostile = tuple(
        finding("NAM102", "unexpected-tensor", "warning", f"stands for nothing: {name}", affected=(name,),
                cells="other:top", location=Location(tensor=name, file=name, field=name), expected={name: [name]},
                actual=name)
        for name in NAMES
    )  # fmt: skip
    waived = finding("HDR110", "missing-format-metadata", "warning", "__metadata__ has no format", status="waived",
                     waiver=Waiver(reason=f"ours {HOSTILE}", owner="weights-team@example.org",
                                   expires=date(2031, 1, 1)))  # fmt: skip
    known = finding("SHP103", "foreign-norm-dtype", "warning", "norms are F32, the family's are BF16", status="known",
                    affected=(f"{LAYER}.{{0-61}}.input_layernorm.weight",), cells="norms:0-61", count=62)  # fmt: skip
    router = finding("SHP102", "wrong-dtype", "error", "gate is F16, the config implies BF16", expected="BF16",
                     actual="F16", location=Location(tensor=f"{LAYER}.40.mlp.gate.weight"),
                     affected=(f"{LAYER}.40.mlp.gate.weight",), cells="router:40")  # fmt: skip
    worst = {(17, "experts"): ("error", 256), (18, "experts"): ("error", 256), (40, "router"): ("error", 1)}
    worst |= {(layer, "attention"): ("error", 1) for layer in range(62)}
    worst |= {(layer, "norms"): ("warning", 1) for layer in range(62)}
    report = sound()
    return report.model_copy(update={
        "source": Source(uri=f"s3://bucket/{HOSTILE}", revision=None, fingerprint=None),
        "verdict": "failed", "policy": Digest(sha256=fingerprint("policy")),
        "baseline": Digest(sha256=fingerprint("baseline")),
        "findings": (*report.findings, *hostile, tally, waived, known, missing, scale, router, root),
        "cells": (*cells(worst), Cell(layer=None, module=HOSTILE, worst="warning", counts={HOSTILE: 1})),
        "outcomes": (
            *OUTCOMES[:2], OUTCOMES[2].model_copy(update={"outcome": "failed"}),
            OUTCOMES[3].model_copy(update={"outcome": "errored", "reason": HOSTILE}), *OUTCOMES[4:]),
        "layout": (*report.layout, LayoutRow(pattern=HOSTILE, shape=(), dtype=HOSTILE, count=1, files=(HOSTILE,))),
        "inventory": report.inventory.model_copy(
            update={"by_dtype": {**report.inventory.by_dtype, HOSTILE: 7, "F4": 9}}),
        "storage": Storage(
            components=(*storage().components, ComponentBytes(component=HOSTILE, dtype=HOSTILE, tensors=1, bytes=7)),
            shards=(*storage().shards, ShardSummary(file=HOSTILE, bytes=9, header_bytes=1, tensors=1)),
            distant_scales=(DistantScales(weight_file=HOSTILE, scale_file=HOSTILE, count=1, weights=(HOSTILE,)),)),
        "tallies": report.tallies.model_copy(update={"components": (
            *report.tallies.components[:-1],
            ComponentTally(component=HOSTILE, from_config=11_274_289_152, from_headers=3_758_096_384))}),
    })  # fmt: skip


def incomplete() -> AuditReport:
    """Nothing but a listing: every field that may be empty is."""
    return AuditReport(
        tool=Tool(name="auditor", version="0.1.0"),
        source=Source(uri="checkpoint", revision=None, fingerprint=None),
        run=Run(depth="headers", seed=None, device=None, engine="local", started_at=datetime(2025, 1, 2), duration_s=0),
        family=None, verdict="incomplete", incomplete=("model-00002-of-000163.safetensors: permission denied",),
        fail_on="never", policy=None, baseline=None,
        outcomes=(outcome("HDR102", "truncated-shard", "A shard is short", "errored", reason="KeyError: 'x'"),),
        findings=(), figures=(),
        inventory=InventorySummary(tensors=0, shards=1, elements=0, payload_bytes=0, file_bytes=0, by_dtype={}),
        layout=(), cells=(Cell(layer=0, module="attention", worst="unread", counts={}),), parallelism=(),
        tallies=Tallies(components=(ComponentTally(component="norms", from_config=None, from_headers=0),),
                        scale_elements=0, unclassified_elements=0),
        coverage=Coverage(payload_bytes_read=0, headers_read=0, shards=1,
                          unread=("model-00002-of-000163.safetensors: permission denied",)),
    )  # fmt: skip


KINDS = {
    "self_attn.q_b_proj.weight": (0, 62), "self_attn.o_proj.weight": (0, 62), "mlp.gate_proj.weight": (0, 3),
    "mlp.experts.{expert}.gate_proj.weight": (3, 62), "mlp.experts.{expert}.down_proj.weight": (3, 62),
    "mlp.shared_experts.up_proj.weight": (3, 62),
}  # fmt: skip


def probes(*, full: bool = False) -> Probes:
    """A sample of a checkpoint whose layer 20 lost its scales' precision and whose layer 41 has NaN codes."""
    chance = random.Random(7)
    groups = []
    for kind, (begin, end) in KINDS.items():
        for layer in range(begin, end):
            blocks = 1_792 if "experts" in kind else 896
            changed = blocks // 3 if layer == 20 and "o_proj" in kind else 0
            undefined = 4 if layer == 41 and "down_proj" in kind else 0
            equal = chance.randrange(60)
            center = -14 - layer // 20
            spread = {center - 1: blocks // 6, center: blocks // 2, center + 1: blocks // 3 - 3, center + 2: 3}
            codes = {126: blocks - changed - undefined - equal, 120: changed, 118: equal}
            groups.append(ProbeGroup(
                layer=layer, kind=kind, dtype="F8_E4M3", tensors=256 if "{expert}" in kind else 1,
                elements=blocks * 16_384 * (1 if full else 300), elements_read=blocks * 16_384, nan=undefined,
                infinite=0, zeros=blocks * 40, minimum=-448.0, maximum=448.0, zero_blocks=0,
                largest_codes={code: count for code, count in (codes | {127: undefined}).items() if count},
                round_trip=RoundTrip(
                    blocks=blocks, exact=blocks - changed - undefined - equal, value_equal=equal, changed=changed,
                    undefined=undefined, largest_relative_error=0.0039 if changed else None),
                scales=ScaleProbe(
                    values=blocks, nan=0, infinite=0, zero=0, negative=0, subnormal=0, powers_of_two=blocks // 90,
                    minimum=2.0 ** (center - 1) * 1.01, median=2.0**center * 1.37, maximum=2.0 ** (center + 2) * 1.2,
                    exponents=spread),
            ))  # fmt: skip
    groups.append(ProbeGroup(
        layer=None, kind="model.embed_tokens.weight", dtype="BF16", tensors=1, elements=926_679_040,
        elements_read=3_000_000, nan=0, infinite=0, zeros=12, minimum=-1.2, maximum=1.1))  # fmt: skip
    tensors, functional = [], []
    for layer in range(3, 62, 2):
        name = f"{LAYER}.{layer}.mlp.experts.{(layer * 37) % 256}.down_proj.weight"
        verdict = (
            "undefined" if layer == 41 else "changed" if layer == 21 else "value_equal" if layer % 5 == 0 else "exact"
        )
        blocks = 256
        tensors.append(TensorProbe(
            tensor=name, file=f"model-{layer * 2:05}-of-000163.safetensors", shape=(7168, 2048),
            rows_read=((0, 128), (3584, 3712), (7040, 7168)), verdict=verdict,
            round_trip=RoundTrip(
                blocks=blocks, exact=blocks if verdict == "exact" else 0,
                value_equal=blocks if verdict == "value_equal" else 0, changed=blocks if verdict == "changed" else 0,
                undefined=blocks if verdict == "undefined" else 0,
                largest_relative_error=0.0039 if verdict == "changed" else None)))  # fmt: skip
        functional.append(FunctionalCheck(
            tensor=name, tokens=64, rows=384, device="NVIDIA H100 80GB HBM3", relative_error=0.021 + layer / 9_000,
            tolerance=0.05, within=True))  # fmt: skip
    return Probes(groups=tuple(groups), tensors=tuple(tensors), functional=tuple(functional))


def sampled() -> AuditReport:
    """A sampled audit on a GPU that found changed values."""
    report = sound()
    damage = finding("VAL104", "changed-round-trip", "error", "299 of 896 blocks come back with other values",
                     location=Location(tensor=f"{LAYER}.20.self_attn.o_proj.weight"), expected="codes and scales again",
                     actual="299 blocks changed", affected=(f"{LAYER}.20.self_attn.o_proj.weight",),
                     cells="attention:20")  # fmt: skip
    return report.model_copy(update={
        "run": report.run.model_copy(
            update={"depth": "sample", "seed": 1234, "device": "NVIDIA H100 80GB HBM3", "duration_s": 91.4}),
        "verdict": "failed",
        "findings": (damage, *report.findings),
        "cells": cells({(20, "attention"): ("error", 1)}),
        "coverage": Coverage(payload_bytes_read=2_065_724_518, tensors_read=6_312, blocks_read=418_000,
                             headers_read=163, shards=163, unread=()),
        "probes": probes(),
    })  # fmt: skip


def complete() -> AuditReport:
    """Every byte read, on the CPU, with digests."""
    report = sampled()
    digests = tuple(
        ShardDigest(file=shard.file, bytes=shard.bytes, sha256=fingerprint(shard.file)) for shard in storage().shards
    )
    return report.model_copy(update={
        "run": report.run.model_copy(update={"depth": "full", "seed": None, "device": "CPU, 64 cores"}),
        "coverage": report.coverage.model_copy(
            update={"payload_bytes_read": report.inventory.payload_bytes, "tensors_read": 91_991}),
        "probes": probes(full=True),
        "content_digest": ContentDigest(sha256=fingerprint("content"), shards=digests, tensors=()),
    })  # fmt: skip


@cache
def many(count: int = 50_000, *, random_names: bool = False) -> AuditReport:
    """So many root findings, each with a name of its own."""
    chance = random.Random(11)
    every = []
    for i in range(count):
        odd = f"odd{chance.getrandbits(40):x}" if random_names else f"odd{i}"
        name = f"{LAYER}.{i % 62}.{odd}.weight"
        every.append(finding(
            "NAM102", "unexpected-tensor", "warning", f"{name} stands for nothing that config.json implies",
            count=1 + i % 7, affected=(name,), location=Location(tensor=name, file="model-00001-of-000163.safetensors"),
            cells=f"other:{i % 62}", fingerprint=fingerprint(i)))  # fmt: skip
    return sound().model_copy(update={"findings": tuple(every)})
