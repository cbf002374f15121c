"""`auditor audit SOURCE`: a verdict and every finding. A remote source is begun before the models are imported."""

import argparse

from auditor.cli.arguments import source
from auditor.cli.outputs import check_outputs, deliver, targets_of
from auditor.cli.outputs import options as outputs
from auditor.cli.progress import progress_of, progress_options, told_by

TYPE_CHECKING = False  # typing itself costs an import
if TYPE_CHECKING:
    from typing import Any

    from auditor.sources import Source
    from auditor_schemas.report import AuditReport


def run(options: argparse.Namespace) -> int:
    """Audit, deliver what was asked for, and return the exit code."""
    targets = targets_of(options)
    policy = [] if options.policy is None else [options.policy]
    check_outputs(targets, sources=[options.source], read=policy, baseline=options.baseline)
    progress = progress_of(options)
    reading = _reading(options, progress)
    begun = _begin(options)
    from auditor.cli import terminal  # noqa: F401  # while headers come, not when they all have
    from auditor.gather import Subject
    from auditor.run import Terms, conduct
    from auditor.startup import leave_to_the_end

    subject = Subject(
        source=begun,
        family=options.family,
        revision=options.revision,
        cache=not options.no_cache,
        symlinks=options.symlinks,
        reading=reading,
    )
    terms = Terms(policy=options.policy, baseline=options.baseline, fail_on=options.fail_on)
    # What is only printed shows no storage and no parallelism.
    summarised = not targets.keys().isdisjoint(("json", "html"))
    try:
        evidence, report = conduct(subject, terms, progress, summarised=summarised)
        leave_to_the_end(evidence)
    finally:
        if progress is not None:
            progress.close()
        if not isinstance(begun, str):
            begun.close()  # where the audit has not come so far
    return deliver(report, targets, quiet=options.quiet, no_gpu="" if options.quiet else _no_gpu(report, options))


def _reading(options: argparse.Namespace, progress: "Any") -> "Any":
    """How content is to be read; None at depth headers, where the options of reading have no meaning."""
    from auditor.errors import UsageError

    if options.depth == "headers":
        given = [
            name
            for name in ("seed", "sample_bytes", "jobs", "resume", "gpu_share")
            if getattr(options, name) is not None
        ]
        given += ["resume_shared"] * options.resume_shared + ["no_digests"] * options.no_digests
        given += ["device"] * (options.device != "auto") + ["engine"] * (options.engine != "local")
        if given:
            name = given[0].replace("_", "-")
            raise UsageError(f"--{name} is for reading tensor data: add --depth sample or --depth full")
        return None
    from auditor.content import GPU_SHARE, SAMPLE_BYTES, Reading

    if options.sample_bytes is not None and options.depth == "full":
        raise UsageError("--sample-bytes bounds a sample: use --depth sample, or leave it out")
    return Reading(
        depth=options.depth,
        seed=options.seed,
        sample_bytes=options.sample_bytes or SAMPLE_BYTES,
        device=options.device,
        jobs=options.jobs,
        resume=options.resume,
        resume_shared=options.resume_shared,
        digests=not options.no_digests,
        engine=options.engine,
        gpu_share=options.gpu_share or GPU_SHARE,
        **told_by(progress),
    )


def _begin(options: argparse.Namespace) -> "str | Source":
    """Begin to fetch what an audit with default limits reads, before the models are imported; what to audit."""
    if "://" not in options.source or options.policy is not None or options.engine != "local":
        return str(options.source)
    from auditor.errors import AuditorError
    from auditor.sources import open_source
    from auditor.sources.begin import fetch

    try:
        source = open_source(options.source, revision=options.revision, cache=not options.no_cache)
    except AuditorError:
        return str(options.source)  # the audit meets it again, when it knows that all else is right
    if source.remote:
        fetch(source)
    return source


def _no_gpu(report: "AuditReport", options: argparse.Namespace) -> str:
    """Why `--device auto` took the CPU, '' where it did not or where there was nothing to take."""
    if options.device != "auto" or options.engine != "local" or report.probes is None or report.run.device != "cpu":
        return ""
    from auditor.content.gpu import available

    return available().reason


def options(parser: argparse.ArgumentParser) -> None:
    """What to audit, how deep, how to judge, and where the report goes."""
    source(parser)
    parser.add_argument(
        "--depth",
        choices=["headers", "sample", "full"],
        default="headers",
        help="what is read: headers alone, also a sample of weight blocks, or every byte (default: headers)",
    )
    parser.add_argument(
        "--family",
        metavar="NAME",
        help="audit as this model family whatever model_type says; 'structure' is for none, any safetensors "
        "checkpoint held against itself alone",
    )
    parser.add_argument("--policy", metavar="FILE", help="a TOML policy: what gates, is required, allowed, waived")
    parser.add_argument("--baseline", metavar="REPORT.json", help="a report whose findings do not gate again")
    parser.add_argument("--symlinks", choices=["follow", "inside"], help="outranks the policy's symlinks")
    parser.add_argument(
        "--fail-on", choices=["error", "warning", "never"], default="error", help="what fails (default: error)"
    )
    _content_options(parser)
    outputs(parser)
    progress_options(parser)


def _content_options(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("reading tensor data (--depth sample or full; extra 'content')")
    group.add_argument("--seed", type=seed, metavar="N", help="what a sample draws from (default: a new one)")
    group.add_argument(
        "--sample-bytes", type=size, metavar="SIZE", help="the most that a sample reads, such as 500MB (default: 2GiB)"
    )
    reading_options(group)


def reading_options(group: "argparse._ArgumentGroup", *, parts: bool = False) -> None:
    """How bytes are read, and where finished work is kept; `parts` have to keep it."""
    group.add_argument(
        "--device",
        choices=["auto", "cpu", "cuda"],
        default="auto",
        help="what computes (default: a GPU where there is one)",
    )
    group.add_argument("--jobs", type=positive, metavar="N", help="threads that read (default: one for each core)")
    group.add_argument(
        "--engine",
        metavar="local|ray[://HOST:PORT]",
        default="local",
        help="where bytes are read: this machine, or the nodes of a Ray cluster (default: local)",
    )
    group.add_argument(
        "--gpu-share",
        type=fraction,
        metavar="FRACTION",
        help="how much of a GPU a unit of work takes on a cluster's nodes that have one (default: 0.125)",
    )
    group.add_argument(
        "--resume",
        metavar="PLACE",
        required=parts,
        help="keep what is finished in PLACE, and go on from there: a folder, or s3://, gs:// or az://bucket/prefix",
    )
    group.add_argument(
        "--resume-shared", action="store_true", help="others may write to that folder, and are trusted with the verdict"
    )
    group.add_argument("--no-digests", action="store_true", help="no SHA-256 of shards, no XXH3 of tensors: faster")


_UNITS = {"": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9, "TB": 10**12, "KIB": 1 << 10, "MIB": 1 << 20, "GIB": 1 << 30,
          "TIB": 1 << 40}  # fmt: skip


def size(text: str) -> int:
    """Bytes, from '500MB' or '2GiB'."""
    digits = text.rstrip("BIKMGTbikmgt ")
    unit = text[len(digits) :].strip().upper()
    try:
        count = int(float(digits) * _UNITS[unit if unit.endswith("B") or not unit else f"{unit}B"])
    except (ValueError, KeyError, OverflowError):
        raise argparse.ArgumentTypeError(f"{text!r} is no size: write bytes, or such as 500MB or 2GiB") from None
    if count < 1:
        raise argparse.ArgumentTypeError(f"{text!r}: needs to be at least 1 byte")
    return count


def seed(text: str) -> int:
    """A seed, from its digits."""
    if not text.isascii() or not text.isdigit() or int(text) >= 1 << 63:
        raise argparse.ArgumentTypeError(f"{text!r}: needs a whole number from 0 to 2^63 - 1")
    return int(text)


def fraction(text: str) -> float:
    """A number above 0, up to 1."""
    try:
        share = float(text)
    except ValueError:
        share = 0.0
    if not 0 < share <= 1:
        raise argparse.ArgumentTypeError(f"{text!r}: needs a number above 0, up to 1")
    return share


def positive(text: str) -> int:
    """A whole number from 1 on."""
    if not text.isascii() or not text.isdigit() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r}: needs a whole number from 1 on")
    return int(text)
