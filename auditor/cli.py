"""The command line: arguments, where output goes, and exit codes. Nothing heavy is imported at the top."""

import argparse
import gc
import os
import sys
from typing import TYPE_CHECKING, Any, NoReturn

if TYPE_CHECKING:
    from auditor.ahead import Ahead
    from auditor.sources import Source
    from auditor_schemas.report import AuditReport

from auditor.options import USAGE, parser_for

INCOMPLETE = 3


def main(arguments: list[str] | None = None, *, alone: bool = False) -> int:
    """Run one command and return its exit code. No exception leaves it: an unexpected one is exit 3.

    `alone`: this process is the command's own, so it may fork.
    """
    gc.disable()  # a short process: its memory goes with it, and collecting during imports is time lost
    # Plugins of other packages have no part in a verdict, and looking for them reads all that is installed.
    os.environ.setdefault("PYDANTIC_DISABLE_PLUGINS", "__all__")
    arguments = sys.argv[1:] if arguments is None else arguments
    parser = parser_for(arguments)
    try:
        options = parser.parse_args(arguments, argparse.Namespace(alone=alone))
    except SystemExit as stop:
        return int(stop.code or 0)
    if options.version:
        from auditor.version import __version__

        _write_out(f"auditor {__version__}\n")
        return 0
    if options.command is None:
        parser.print_help()
        return USAGE
    try:
        return _command(options)
    except KeyboardInterrupt:
        return _complain("cancelled", INCOMPLETE)
    except BrokenPipeError:
        # The reader went away: silence the interpreter's own complaint at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return INCOMPLETE
    except Exception as error:  # the edge: whatever it is, it means that nothing was decided
        return _unexpected(error)


def _command(options: argparse.Namespace) -> int:
    from auditor.errors import AuditorError, UsageError

    commands = {
        "audit": _audit,
        "count": _count,
        "tensor": _tensor,
        "report": _report,
        "rules": _rules,
        "rule": _rule,
        "forge": _forge,
        "schema": _schema,
    }
    try:
        return commands[options.command](options)
    except UsageError as error:
        return _complain(str(error), USAGE)
    except AuditorError as error:
        return _complain(str(error), INCOMPLETE)


def _audit(options: argparse.Namespace) -> int:
    _check_outputs(options)
    with _terminate_as_interrupt():
        progress = _progress(options)
        # A walk in a second process shows no progress, and knows only the default limits.
        default = options.policy is None
        remote = _start_remote(options) if default and "://" in options.source else None
        ahead = _start_ahead(options.source) if options.alone and progress is None and default and not remote else None
        from auditor.run import conduct

        try:
            report = conduct(
                options.source if remote is None else remote,
                depth=options.depth,
                family=options.family,
                policy=options.policy,
                fail_on=options.fail_on,
                progress=progress,
                revision=options.revision,
                cache=not options.no_cache,
                walked=None if ahead is None else ahead.inventory,
            )
        finally:
            if progress is not None:
                progress.close()
            if ahead is not None:
                ahead.close()
    return _deliver(report, options)


def _start_ahead(source: str) -> "Ahead | None":
    from auditor.ahead import start

    return start(source)


def _start_remote(options: argparse.Namespace) -> "Source":
    """A remote source that fetches what an audit with default limits reads, while the models are imported."""
    import threading
    from types import SimpleNamespace

    from auditor.errors import AuditorError
    from auditor.sources import open_source
    from auditor.walk import begin
    from auditor_schemas.defaults import LIMITS

    source = open_source(options.source, revision=options.revision, cache=not options.no_cache)
    limits: Any = SimpleNamespace(**LIMITS)

    def fetch() -> None:
        try:
            begin(source, limits)
        except AuditorError:
            pass  # the audit meets it again, where somebody listens

    threading.Thread(target=fetch, name="auditor-begin", daemon=True).start()
    return source


def _report(options: argparse.Namespace) -> int:
    from pydantic import ValidationError

    from auditor.errors import SourceError
    from auditor.text import shown
    from auditor_schemas.report import AuditReport

    _check_outputs(options)
    try:
        with open(options.report, "rb") as file:
            data = file.read()
        report = AuditReport.model_validate_json(data)
    except OSError as error:
        raise SourceError(f"{options.report}: {error.strerror}") from error
    except ValidationError as error:
        first = error.errors(include_input=False)[0]
        where = ".".join(map(str, first["loc"])) or "the document"
        raise SourceError(f"{options.report}: not an audit report: {shown(where)}: {first['msg'].lower()}") from error
    return _deliver(report, options)


def _deliver(report: "AuditReport", options: argparse.Namespace) -> int:
    """Write what was asked for, then print; an output that fails makes the exit code 3 and loses no other."""
    from auditor.gate import EXIT_CODES

    code = EXIT_CODES[report.verdict]
    piped = False
    for kind in ("json", "html"):
        target = getattr(options, kind)
        if target is None:
            continue
        try:
            _save(_rendered(report, kind), target)
        except BrokenPipeError:
            raise
        except OSError as error:
            code = _complain(f"cannot write {target}: {error.strerror}", INCOMPLETE)
        piped = piped or target == "-"
    if not piped:
        if options.quiet:
            from auditor.terminal import verdict_line

            _write_out(verdict_line(report) + "\n")
        else:
            from auditor.terminal import show

            show(report)
    return code


def _rendered(report: "AuditReport", kind: str) -> str:
    if kind == "json":
        return report.model_dump_json(indent=2) + "\n"
    from auditor_reports.html import render

    return render(report)


def _save(text: str, target: str) -> None:
    """Write to a file, whole or not at all, or to standard output."""
    if target == "-":
        sys.stdout.buffer.write(text.encode("utf-8"))
        sys.stdout.buffer.flush()
        return
    if os.path.lexists(target) and not os.path.isfile(target):  # a pipe or a device is written through
        with open(target, "w", encoding="utf-8") as file:
            file.write(text)
        return
    partial = f"{target}.{os.getpid()}.partial"
    try:
        with open(partial, "x", encoding="utf-8") as file:
            file.write(text)
        os.replace(partial, target)
    except OSError:
        if os.path.lexists(partial):
            os.unlink(partial)
        raise


def _check_outputs(options: argparse.Namespace) -> None:
    """Refuse two outputs on standard output, and one in a folder that is not there, before any work."""
    from auditor.errors import UsageError

    if options.json == "-" and options.html == "-":
        raise UsageError("--json and --html both go to standard output: give one of them a file")
    for kind in ("json", "html"):
        target = getattr(options, kind)
        if target in (None, "-"):
            continue
        folder = os.path.dirname(target) or "."
        if not os.path.isdir(folder):
            raise UsageError(f"--{kind} {target}: the folder {folder} does not exist: create it first")
        if os.path.isdir(target):
            raise UsageError(f"--{kind} {target}: is a folder: give a file name in it")


def _count(options: argparse.Namespace) -> int:
    from auditor.query import InvalidConfigError, counted
    from auditor.terminal import show_counts

    try:
        result = counted(options.source, family=options.family, revision=options.revision, cache=not options.no_cache)
    except InvalidConfigError as error:
        return _complain(str(error), 1)
    if options.json is not None:
        import json

        _save(json.dumps(result, indent=2) + "\n", options.json)
    if options.json != "-":
        show_counts(result)
    return 1 if result["agree"] is False else 0


def _tensor(options: argparse.Namespace) -> int:
    from auditor.query import described

    text, found = described(
        options.source,
        options.name,
        family=options.family,
        revision=options.revision,
        cache=not options.no_cache,
    )
    _write_out(text)
    return 0 if found else 1


def _rules(options: argparse.Namespace) -> int:  # noqa: ARG001  # every command takes the options
    from auditor.rules import catalogue

    for module in catalogue():
        rule = module.rule
        _write_out(f"{rule.id}  {rule.severity.value:7}  {rule.slug:30}  {rule.title}\n")
    return 0


def _rule(options: argparse.Namespace) -> int:
    from auditor.errors import UsageError
    from auditor.pages import page
    from auditor.rules import catalogue

    wanted = options.rule
    rules = [module.rule for module in catalogue()]
    rule = next((each for each in rules if wanted.upper() == each.id or wanted.lower() == each.slug), None)
    if rule is None:
        from auditor.text import nearest, shown

        near = nearest(wanted, [name for each in rules for name in (each.id, each.slug)])
        raise UsageError(f"no rule {shown(wanted)}{near}; `auditor rules` lists them")
    _write_out(page(rule))
    return 0


def _forge(options: argparse.Namespace) -> int:
    from auditor.errors import UsageError
    from auditor.forge import breaks, forge

    if options.list_breaks:
        for each in breaks().values():
            severity = str(each.severity or "-")
            _write_out(f"{each.name:36}  {each.rule or '-':6}  {severity:7}  exit {each.exit_code}  {each.title}\n")
        return 0
    if options.directory is None:
        raise UsageError("forge needs a DIR to write to, or --list-breaks")
    if options.like != "tiny" and not options.sparse and not options.yes_689_gb:
        raise UsageError(f"--like {options.like} is 689 GB of real data: add --sparse, or --yes-689-gb to write it all")
    from pathlib import Path

    forged = forge(
        Path(options.directory),
        like=options.like,
        sparse=options.sparse,
        break_name=options.break_name,
        seed=options.seed,
    )
    _write_out(f"{forged.summary()}\n")
    return 0


def _schema(options: argparse.Namespace) -> int:
    import json

    from auditor.errors import UsageError
    from auditor_schemas.published import SCHEMAS

    if options.name not in SCHEMAS:
        raise UsageError(f"schema needs a NAME: one of {', '.join(sorted(SCHEMAS))}")
    _write_out(json.dumps(SCHEMAS[options.name](), indent=2) + "\n")
    return 0


def _progress(options: argparse.Namespace) -> Any:
    """A progress line on a terminal's standard error, or None."""
    if options.quiet or not sys.stderr.isatty():
        return None
    from auditor.terminal import ProgressLine

    return ProgressLine()


class _terminate_as_interrupt:  # noqa: N801  # reads as a statement where it is used
    """SIGTERM, which a cancelled CI job gets, ends an audit as Ctrl-C does: incomplete, with what was read."""

    def __enter__(self) -> None:
        import signal

        def interrupt(*_: object) -> None:
            raise KeyboardInterrupt

        try:
            self._before: Any = signal.signal(signal.SIGTERM, interrupt)
        except ValueError:  # not the main thread
            self._before = None

    def __exit__(self, *_: object) -> None:
        import signal

        if self._before is not None:
            signal.signal(signal.SIGTERM, self._before)


def _write_out(text: str) -> None:
    sys.stdout.write(text)
    sys.stdout.flush()


def _complain(message: str, code: int) -> int:
    print(f"auditor: {message}", file=sys.stderr)  # noqa: T201  # the one place that complains
    return code


def _unexpected(error: BaseException) -> int:
    if os.environ.get("AUDITOR_TRACEBACK"):
        import traceback

        traceback.print_exception(error)
    message = f"{type(error).__name__}: {error}"
    return _complain(f"unexpected error, nothing was decided: {message} (AUDITOR_TRACEBACK=1 shows where)", INCOMPLETE)


def entry() -> NoReturn:
    """The console script. It leaves without freeing memory piece by piece, which the end of the process does."""
    code = main(alone=True)
    try:
        sys.stdout.flush()
        sys.stderr.flush()
    except OSError:
        code = INCOMPLETE
    os._exit(code)
