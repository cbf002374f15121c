"""The command line: arguments, where output goes, and exit codes. Nothing heavy is imported at the top."""

import argparse
import gc
import os
import sys
from typing import TYPE_CHECKING, Any, NoReturn

if TYPE_CHECKING:
    from auditor.sources import Source

from auditor.options import USAGE, parser_for
from auditor.startup import keep_freed_memory, without_plugins

INCOMPLETE = 3


def main(arguments: list[str] | None = None, *, alone: bool = False) -> int:
    """Run one command and return its exit code. No exception leaves it: an unexpected one is exit 3.

    `alone`: this process is the command's own.
    """
    gc.disable()  # a short process: its memory goes with it, and collecting during imports is time lost
    without_plugins()
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
        "publish": _publish,
        "rules": _rules,
        "rule": _rule,
        "forge": _forge,
        "schema": _schema,
        "diff": _diff,
        "verify": _verify,
        "lint": _lint,
    }
    try:
        return commands[options.command](options)
    except UsageError as error:
        return _complain(str(error), USAGE)
    except AuditorError as error:
        return _complain(str(error), INCOMPLETE)


def _audit(options: argparse.Namespace) -> int:
    from auditor.outputs import check_outputs, deliver

    check_outputs(options)
    with _terminate_as_interrupt():
        progress = _progress(options)
        reading = _reading(options, progress)
        source = _begin(options)
        from auditor import terminal  # noqa: F401  # while headers come, not when they all have
        from auditor.run import conduct

        try:
            report = conduct(
                source,
                reading=reading,
                family=options.family,
                policy=options.policy,
                baseline=options.baseline,
                symlinks=options.symlinks,
                fail_on=options.fail_on,
                progress=progress,
                revision=options.revision,
                cache=not options.no_cache,
                summarised=_writes(options),
            )
        finally:
            if progress is not None:
                progress.close()
            if not isinstance(source, str):
                source.close()  # where the audit has not come so far
    return deliver(report, options, _complain)


def _reading(options: argparse.Namespace, progress: Any) -> Any:
    """How content is to be read; None at depth headers, where the options of reading have no meaning."""
    from auditor.errors import UsageError

    if options.depth == "headers":
        given = [name for name in ("seed", "sample_bytes", "jobs", "resume") if getattr(options, name) is not None]
        given += ["no_digests"] * options.no_digests + ["device"] * (options.device != "auto")
        if given:
            name = given[0].replace("_", "-")
            raise UsageError(f"--{name} is for reading tensor data: add --depth sample or --depth full")
        return None
    from auditor.content import SAMPLE_BYTES, Reading

    if options.sample_bytes is not None and options.depth == "full":
        raise UsageError("--sample-bytes bounds a sample: use --depth sample, or leave it out")
    if options.alone:  # numpy's matrix products are small here, and its threads spin on cores that have bytes to read
        os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    return Reading(
        depth=options.depth,
        seed=options.seed,
        sample_bytes=options.sample_bytes or SAMPLE_BYTES,
        device=options.device,
        jobs=options.jobs,
        resume=options.resume,
        digests=not options.no_digests,
        progress=None if progress is None else progress.content,
        preparing=None if progress is None else progress.preparing,
    )


def _writes(options: argparse.Namespace) -> bool:
    """Whether a report is written at all: what is only printed shows no storage and no parallelism."""
    return any(getattr(options, kind, None) is not None for kind in ("json", "html"))


def _begin(options: argparse.Namespace) -> "str | Source":
    """Begin to fetch what an audit with default limits reads, before the models are imported; what to audit."""
    if "://" not in options.source or options.policy is not None:
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


def _report(options: argparse.Namespace) -> int:
    from auditor.outputs import check_outputs, deliver
    from auditor.saved import read_report

    check_outputs(options)
    return deliver(read_report(options.report), options, _complain)


def _publish(options: argparse.Namespace) -> int:
    from auditor.publish import publish

    _write_out(f"{publish(options.reports, options.site).summary()}\n")
    return 0


def _count(options: argparse.Namespace) -> int:
    from auditor.query import InvalidConfigError, counted
    from auditor.terminal import show_counts

    try:
        result = counted(options.source, family=options.family, revision=options.revision, cache=not options.no_cache)
    except InvalidConfigError as error:
        return _complain(str(error), 1)
    if options.json is not None:
        import json

        from auditor.outputs import save

        save(json.dumps(result, indent=2) + "\n", options.json)
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
            what = f"{each.name:36}  {each.rule or '-':6}  {severity:7}  exit {each.exit_code}  {each.depth:7}"
            _write_out(f"{what}  {each.title}\n")
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


def _diff(options: argparse.Namespace) -> int:
    from auditor.diff import compared
    from auditor.diff_text import lines
    from auditor.outputs import check_outputs, save

    check_outputs(options)
    diff = compared(options.old, options.new)
    code = INCOMPLETE if diff.incomplete else int(not diff.same)
    for kind in ("json", "html"):
        target = getattr(options, kind)
        if target is None:
            continue
        if kind == "json":
            text = diff.model_dump_json(indent=2) + "\n"
        else:
            from auditor_reports.diff import render

            text = render(diff)
        try:
            save(text, target)
        except BrokenPipeError:
            raise
        except OSError as error:
            code = _complain(f"cannot write {target}: {error.strerror}", INCOMPLETE)
    if "-" not in (options.json, options.html):
        _write_out("".join(f"{line}\n" for line in lines(diff)))
    return code


def _verify(options: argparse.Namespace) -> int:
    from auditor.verify import verified

    text, code = verified(options.report, options.source, digests=not options.no_digests, pinned=options.fingerprint)
    _write_out(text)
    return code


def _lint(options: argparse.Namespace) -> int:
    from auditor.lint import linted

    text, code = linted(options.files, family=options.family)
    _write_out(text)
    return code


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
    keep_freed_memory()
    code = main(alone=True)
    try:
        sys.stdout.flush()
        sys.stderr.flush()
    except OSError:
        code = INCOMPLETE
    os._exit(code)
