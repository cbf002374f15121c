"""Where a report goes: each file written whole or not at all, and the exit code that follows.

An output that fails takes no other with it.
"""

import os
import sys
from collections.abc import Callable, Mapping, Sequence
from functools import partial

from auditor.cli.streams import STANDARD_OUTPUT, complain, name_of, tell, why
from auditor.errors import OutputError, UsageError
from auditor.reporting.formats import FORMATS, render
from auditor.startup import without_panic

TYPE_CHECKING = False  # typing itself costs an import
if TYPE_CHECKING:
    import argparse

    from auditor_schemas.report import AuditReport

INCOMPLETE = 3


def options(parser: "argparse.ArgumentParser") -> None:
    """An option for each format of a report, and --quiet."""
    for name, each in FORMATS.items():
        text = each.help if each.folder else f"{each.help} ('-' is standard output)"
        parser.add_argument(f"--{name}", metavar="DIR" if each.folder else "FILE", help=text)
    parser.add_argument("--quiet", action="store_true", help="print the verdict line alone")


def targets_of(options: "argparse.Namespace") -> dict[str, str]:
    """The formats that were asked for, with their targets; a command need not offer them all."""
    targets = {name: getattr(options, name, None) for name in FORMATS}
    return {name: target for name, target in targets.items() if target is not None}


def check_outputs(
    targets: Mapping[str, str],
    *,
    sources: Sequence[str] = (),
    read: Sequence[str] = (),
    baseline: str | None = None,
) -> None:
    """Refuse, before any work, what cannot be written, what would harm, and a format that lacks its extra.

    `targets` by format. Nothing of the `sources` nor what else is `read` is written over, but a baseline by its next
    report.
    """
    places: dict[str, str] = {}
    for name, target in targets.items():
        place = target if target == STANDARD_OUTPUT else os.path.realpath(target)
        other = places.setdefault(place, name)
        if other != name:
            where = "to standard output" if target == STANDARD_OUTPUT else f"to {target}"
            raise UsageError(f"--{other} and --{name} both go {where}: give one of them a file")
        each = FORMATS[name]
        if each.needs is not None:
            _check_extra(name, each.needs, each.extra)
        if target == STANDARD_OUTPUT:
            if each.folder:
                raise UsageError(f"--{name} -: writes several files: give it a folder")
            continue
        folder = os.path.dirname(target.rstrip("/") if each.folder else target) or "."
        if not os.path.isdir(folder):
            raise UsageError(f"--{name} {target}: the folder {folder} does not exist: create it first")
        if not each.folder and os.path.isdir(target):
            raise UsageError(f"--{name} {target}: is a folder: give a file name in it")
        if each.folder and os.path.lexists(target) and not os.path.isdir(target):
            raise UsageError(f"--{name} {target}: is a file: give a folder")
    if any(place != STANDARD_OUTPUT for place in places):
        _check_places(targets, sources, read, baseline)


def _check_places(
    targets: Mapping[str, str], sources: Sequence[str], read: Sequence[str], baseline: str | None
) -> None:
    from auditor.reporting.places import check_places, checkpoints_of

    outputs: list[tuple[str, str]] = []
    for name, target in targets.items():
        if target != STANDARD_OUTPUT:
            files = FORMATS[name].files
            outputs += [(name, os.path.join(target, file)) for file in files] if files else [(name, target)]
    folders = [each for each in sources if os.path.isdir(each)]
    folders += [os.path.dirname(each) or "." for each in sources if os.path.basename(each) == "config.json"]
    folders += checkpoints_of(outputs)
    check_places(outputs, checkpoints=folders, read=[*sources, *read])
    if baseline is not None:
        check_places([each for each in outputs if each[0] != "json"], checkpoints=(), read=[baseline])


def _check_extra(name: str, module: str, extra: str | None) -> None:
    from importlib.util import find_spec

    if find_spec(module) is None:
        raise UsageError(f"--{name} needs {module}: pip install 'checkpoint-auditor[{extra}]'")


def deliver(report: "AuditReport", targets: Mapping[str, str], *, quiet: bool = False, no_gpu: str = "") -> int:
    """Write each format to its target, then print; an output that fails makes the exit code 3 and loses no other.

    `no_gpu` tells why the CPU read what a GPU might have.
    """
    from auditor.verdict.gate import EXIT_CODES

    outputs = [(target, partial(render, report, name)) for name, target in targets.items()]
    return write_all(outputs, lambda: _print(report, quiet=quiet, no_gpu=no_gpu), EXIT_CODES[report.verdict])


def write_all(
    outputs: Sequence[tuple[str, Callable[[], str | dict[str, str]]]], show: Callable[[], object], code: int
) -> int:
    """Write each target's text, and `show` where standard output takes none of them; the exit code, 3 where one fails.

    Standard output comes last: a reader that went away costs no file.
    """
    piped = any(target == STANDARD_OUTPUT for target, _ in outputs)
    for target, text in sorted(outputs, key=lambda each: each[0] == STANDARD_OUTPUT):
        try:
            _write(without_panic(text), target)
        except BrokenPipeError:
            raise
        except Exception as error:  # the edge: a format that fails takes no other with it
            code = complain(f"cannot write {name_of(target)}: {why(error)}", INCOMPLETE)
    if not piped:
        try:
            tell(show, only_files=bool(outputs))
        except OutputError as error:
            code = complain(str(error), INCOMPLETE)
    return code


def _write(text: str | dict[str, str], target: str) -> None:
    if isinstance(text, str):
        return save(text, target)
    os.makedirs(target, exist_ok=True)
    for name, content in text.items():
        save(content, os.path.join(target, name))
    return None


def save(text: str, target: str) -> None:
    """Write to a file, whole or not at all, or to standard output."""
    if target == STANDARD_OUTPUT:
        sys.stdout.buffer.write(text.encode("utf-8"))
        sys.stdout.buffer.flush()
        return
    if os.path.lexists(target) and not os.path.isfile(target):  # a pipe or a device is written through
        with open(target, "w", encoding="utf-8") as file:
            file.write(text)
        return
    unfinished = f"{target}.{os.getpid()}.partial"
    try:
        with open(unfinished, "x", encoding="utf-8") as file:
            file.write(text)
        os.replace(unfinished, target)
    except BaseException:
        if os.path.lexists(unfinished):
            os.unlink(unfinished)
        raise


def _print(report: "AuditReport", *, quiet: bool, no_gpu: str) -> None:
    # A GitHub workflow takes a line '::error::…' of its log for a command: names are text all the same.
    token = os.urandom(16).hex() if os.environ.get("GITHUB_ACTIONS") == "true" else None
    if token is not None:
        sys.stdout.write(f"::stop-commands::{token}\n")
    try:
        if quiet:
            from auditor.cli.terminal import verdict_line

            sys.stdout.write(verdict_line(report) + "\n")
        else:
            from auditor.cli.terminal import show

            show(report, no_gpu=no_gpu)
    finally:
        if token is not None:
            sys.stdout.write(f"::{token}::\n")
        sys.stdout.flush()
