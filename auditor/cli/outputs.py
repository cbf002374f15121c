"""Where a report goes: each file written whole or not at all, and the exit code that follows.

An output that fails takes no other with it.
"""

import errno
import os
import sys
from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING

from auditor.reporting.formats import FORMATS

if TYPE_CHECKING:
    import argparse

    from auditor_schemas.report import AuditReport

STANDARD_OUTPUT = "-"
INCOMPLETE = 3


def check_outputs(options: "argparse.Namespace") -> None:
    """Refuse, before any work, what cannot be written, what would harm, and a format that lacks its extra."""
    from auditor.errors import UsageError

    places: dict[str, str] = {}
    for name, target in asked_for(options):
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
        _check_places(options)


def _check_places(options: "argparse.Namespace") -> None:
    """See places.check_places: nothing that a command reads is written over, but a baseline by its next report."""
    from auditor.reporting.places import check_places, checkpoints_of

    outputs: list[tuple[str, str]] = []
    for name, target in asked_for(options):
        if target != STANDARD_OUTPUT:
            files = FORMATS[name].files
            outputs += [(name, os.path.join(target, file)) for file in files] if files else [(name, target)]
    named = [each for key in ("source", "old", "new") if (each := getattr(options, key, None)) is not None]
    folders = [each for each in named if os.path.isdir(each)]
    folders += [os.path.dirname(each) or "." for each in named if os.path.basename(each) == "config.json"]
    folders += checkpoints_of(outputs)
    read = [each for key in ("report", "policy") if (each := getattr(options, key, None)) is not None]
    check_places(outputs, checkpoints=folders, read=[*named, *read])
    baseline = getattr(options, "baseline", None)
    if baseline is not None:
        check_places([each for each in outputs if each[0] != "json"], checkpoints=(), read=[baseline])


def _check_extra(name: str, module: str, extra: str | None) -> None:
    from importlib.util import find_spec

    if find_spec(module) is None:
        from auditor.errors import UsageError

        raise UsageError(f"--{name} needs {module}: pip install 'checkpoint-auditor[{extra}]'")


def deliver(report: "AuditReport", options: "argparse.Namespace", complain: Callable[[str, int], int]) -> int:
    """Write what was asked for, then print; an output that fails makes the exit code 3 and loses no other."""
    from auditor.verdict.gate import EXIT_CODES

    def print_report() -> None:
        _print(report, quiet=options.quiet, no_gpu="" if options.quiet else _no_gpu(report, options))

    asked = [(target, partial(FORMATS[name].render, report)) for name, target in asked_for(options)]
    return write_all(asked, print_report, EXIT_CODES[report.verdict], complain)


def write_all(
    asked: "Sequence[tuple[str, Callable[[], str | dict[str, str]]]]",
    show: Callable[[], object],
    code: int,
    complain: Callable[[str, int], int],
) -> int:
    """Write each target's text, and `show` where standard output takes none of them; the exit code, 3 where one fails.

    Standard output comes last: a reader that went away costs no file.
    """
    from auditor.errors import OutputError

    piped = any(target == STANDARD_OUTPUT for target, _ in asked)
    for target, render in sorted(asked, key=lambda each: each[0] == STANDARD_OUTPUT):
        try:
            _write(render(), target)
        except BrokenPipeError:
            raise
        except Exception as error:  # the edge: a format that fails takes no other with it
            code = complain(f"cannot write {_named(target)}: {_why(error)}", INCOMPLETE)
    if not piped:
        try:
            tell(show, only_files=bool(asked))
        except OutputError as error:
            code = complain(str(error), INCOMPLETE)
    return code


def tell(show: Callable[[], object], *, only_files: bool = False) -> None:
    """Print to standard output; raises OutputError where it takes nothing.

    A standard output that is closed is no fault where `only_files` were asked for.
    """
    from auditor.errors import OutputError

    try:
        show()
        sys.stdout.flush()
    except BrokenPipeError:
        raise
    except OSError as error:
        if not (only_files and error.errno == errno.EBADF):
            raise OutputError(f"cannot write {_named(STANDARD_OUTPUT)}: {_why(error)}") from error


def _named(target: str) -> str:
    return "standard output" if target == STANDARD_OUTPUT else target


def _why(error: Exception) -> str:
    from auditor.cli.startup import exhausted

    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return exhausted(error) or f"{type(error).__name__}: {error}"


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


def asked_for(options: "argparse.Namespace") -> list[tuple[str, str]]:
    """The formats that were asked for, with their targets; a command need not offer them all."""
    targets = ((name, getattr(options, name, None)) for name in FORMATS)
    return [(name, target) for name, target in targets if target is not None]


def _no_gpu(report: "AuditReport", options: "argparse.Namespace") -> str:
    """Why `--device auto` took the CPU, '' where it did not or where there was nothing to take."""
    if getattr(options, "device", None) != "auto" or report.probes is None or report.run.device != "cpu":
        return ""
    from auditor.content.gpu import available

    return available().reason


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
