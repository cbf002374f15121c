"""`auditor lint CONFIG|INDEX|FOLDER`: config.json and the index alone, without a shard."""

import argparse

from auditor.cli.streams import write_out

TYPE_CHECKING = False  # typing itself costs an import
if TYPE_CHECKING:
    from collections.abc import Iterator

    from auditor.questions.lint import Linted
    from auditor_schemas.finding import Finding


def options(parser: argparse.ArgumentParser) -> None:
    """The files, and the family to judge them by."""
    parser.epilog = "exit codes: 0 passed, 1 failed, 2 usage, 3 a file could not be judged"
    parser.add_argument(
        "files", metavar="FILE", nargs="+", help="config.json, model.safetensors.index.json, or the folder of both"
    )
    parser.add_argument("--family", metavar="NAME", help="judge as this model family whatever model_type says")


def run(options: argparse.Namespace) -> int:
    """Print the findings of each checkpoint; the exit code is that of the worst."""
    from auditor.questions.lint import folders_of, lint
    from auditor.verdict.gate import EXIT_CODES

    found = {folder: lint(folder, family=options.family) for folder in folders_of(options.files)}
    write_out("".join(f"{line}\n" for folder, each in found.items() for line in _lines(folder, each)))
    return max(EXIT_CODES[each.verdict] for each in found.values())


def _lines(folder: str, found: "Linted") -> "Iterator[str]":
    from auditor.text import plural, shown

    files = " and ".join(found.files)
    yield f"{shown(folder)}: {found.verdict}, {plural(found.rules, 'rule')} on {files}, no shard read"
    yield from (f"  not audited: {shown(reason)}" for reason in found.unread)
    notes: dict[str, list[Finding]] = {}
    for finding in found.findings:
        if finding.caused_by is not None:
            continue
        if finding.severity == "info":
            notes.setdefault(finding.rule, []).append(finding)
        else:
            yield from _finding_lines(finding)
    for rule, (first, *more) in notes.items():
        yield f"  INFO {rule} {first.slug}: {shown(first.message)}{f' (and {len(more):,} more)' if more else ''}"


def _finding_lines(finding: "Finding") -> "Iterator[str]":
    from auditor.questions.lint import BY_THE_INDEX
    from auditor.text import listed, shown

    place = [each for each in (finding.location.file, finding.location.tensor, finding.location.field) if each]
    count = f" ({finding.count:,} alike)" if finding.count > 1 else ""
    where = f": {shown(' · '.join(place))}" if place else ""
    yield f"  {finding.severity.value.upper()} {finding.rule} {finding.slug}{count}{where}"
    yield f"    {shown(BY_THE_INDEX.get(finding.rule, finding.message))}"
    if finding.count > 1:
        yield f"    affects {shown(listed(finding.affected, most=4))}"
