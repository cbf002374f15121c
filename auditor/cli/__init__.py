"""The command line: arguments, where output goes, and exit codes. Nothing heavy is imported at the top."""

import os
import sys

# What can fail is imported where the command answers for it: an exception at import is exit 1, which means failed.
TYPE_CHECKING = False
if TYPE_CHECKING:
    import argparse
    from typing import NoReturn

USAGE = 2
INCOMPLETE = 3


def main(arguments: list[str] | None = None, *, alone: bool = False) -> int:
    """Run one command and return its exit code. No exception leaves it: an unexpected one is exit 3.

    `alone`: this process is the command's own, which may be set up for the libraries that a command imports.
    """
    try:
        return _main(sys.argv[1:] if arguments is None else arguments, alone=alone)
    except KeyboardInterrupt:
        said = "cancelled"
    except BrokenPipeError:
        return INCOMPLETE
    except Exception as error:  # the edge: whatever it is, it means that nothing was decided
        said = _unexpected(error)
    # Only here is gone what the exception held: without memory there would be none to say so.
    return _complain(said, INCOMPLETE)


def _main(arguments: list[str], *, alone: bool) -> int:
    from auditor.cli.options import parser_for
    from auditor.errors import AuditorError, UsageError

    parser = parser_for(arguments)
    try:
        options = parser.parse_args(arguments)
        if options.version:
            from auditor.version import __version__

            _write_out(f"auditor {__version__}\n")
            return 0
        if options.command is None:
            parser.print_help()
            return USAGE
        if alone and (getattr(options, "depth", "headers") != "headers" or getattr(options, "csv", None) is not None):
            from auditor.cli.startup import before_numpy

            before_numpy()
        return _command(options)
    except SystemExit as stop:
        return int(stop.code or 0)
    except UsageError as error:
        return _complain(str(error), USAGE)
    except AuditorError as error:
        return _complain(str(error), INCOMPLETE)


def _command(options: "argparse.Namespace") -> int:
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
    return commands[options.command](options)


def _audit(options: "argparse.Namespace") -> int:
    from auditor.cli.auditing import audited

    return audited(options, _complain)


def _report(options: "argparse.Namespace") -> int:
    from auditor.cli.outputs import check_outputs, deliver
    from auditor.reporting.saved import read_report

    check_outputs(options)
    return deliver(read_report(options.report), options, _complain)


def _publish(options: "argparse.Namespace") -> int:
    from auditor.reporting.publish import publish

    _write_out(f"{publish(options.reports, options.site).summary()}\n", only_files=True)
    return 0


def _count(options: "argparse.Namespace") -> int:
    from auditor.cli.outputs import check_outputs, write_all
    from auditor.cli.terminal import show_counts
    from auditor.questions.query import InvalidConfigError, counted

    check_outputs(options)
    try:
        result = counted(options.source, family=options.family, revision=options.revision, cache=not options.no_cache)
    except InvalidConfigError as error:
        return _complain(str(error), 1)

    def written() -> str:
        import json

        from auditor.text import shown_json

        return shown_json(json.dumps(result, indent=2)) + "\n"

    asked = [] if options.json is None else [(options.json, written)]
    return write_all(asked, lambda: show_counts(result), 1 if result["agree"] is False else 0, _complain)


def _tensor(options: "argparse.Namespace") -> int:
    from auditor.questions.query import described

    text, found = described(
        options.source,
        options.name,
        family=options.family,
        revision=options.revision,
        cache=not options.no_cache,
    )
    _write_out(text)
    return 0 if found else 1


def _rules(options: "argparse.Namespace") -> int:  # noqa: ARG001  # every command takes the options
    from auditor.rules import catalogue

    for module in catalogue():
        rule = module.rule
        _write_out(f"{rule.id}  {rule.severity.value:7}  {rule.slug:30}  {rule.title}\n")
    return 0


def _rule(options: "argparse.Namespace") -> int:
    from auditor.errors import UsageError
    from auditor.rules import catalogue
    from auditor.rules.pages import page

    wanted = options.rule
    rules = [module.rule for module in catalogue()]
    rule = next((each for each in rules if wanted.upper() == each.id or wanted.lower() == each.slug), None)
    if rule is None:
        from auditor.text import nearest, shown

        near = nearest(wanted, [name for each in rules for name in (each.id, each.slug)])
        raise UsageError(f"no rule {shown(wanted)}{near}; `auditor rules` lists them")
    _write_out(page(rule))
    return 0


def _forge(options: "argparse.Namespace") -> int:
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
    _write_out(f"{forged.summary()}\n", only_files=True)
    return 0


def _schema(options: "argparse.Namespace") -> int:
    import json

    from auditor.errors import UsageError
    from auditor_schemas.published import SCHEMAS

    if options.name not in SCHEMAS:
        raise UsageError(f"schema needs a NAME: one of {', '.join(sorted(SCHEMAS))}")
    _write_out(json.dumps(SCHEMAS[options.name](), indent=2) + "\n")
    return 0


def _diff(options: "argparse.Namespace") -> int:
    from auditor.cli.outputs import asked_for, check_outputs, write_all
    from auditor.questions.diff import compared
    from auditor.questions.diff_text import lines
    from auditor.text import shown_json

    check_outputs(options)
    diff = compared(options.old, options.new)

    def page() -> str:
        from auditor_reports.diff import render

        return render(diff)

    formats = {"json": lambda: shown_json(diff.model_dump_json(indent=2)) + "\n", "html": page}
    return write_all(
        [(target, formats[name]) for name, target in asked_for(options)],
        lambda: sys.stdout.write("".join(f"{line}\n" for line in lines(diff))),
        INCOMPLETE if diff.incomplete else int(not diff.same),
        _complain,
    )


def _verify(options: "argparse.Namespace") -> int:
    from auditor.questions.verify import verified

    text, code = verified(options.report, options.source, digests=not options.no_digests, pinned=options.fingerprint)
    _write_out(text)
    return code


def _lint(options: "argparse.Namespace") -> int:
    from auditor.questions.lint import linted

    text, code = linted(options.files, family=options.family)
    _write_out(text)
    return code


def _write_out(text: str, *, only_files: bool = False) -> None:
    from auditor.cli.outputs import tell

    tell(lambda: sys.stdout.write(text), only_files=only_files)


def _complain(message: str, code: int) -> int:
    from auditor.text import shown

    try:
        print(f"auditor: {shown(message)}", file=sys.stderr, flush=True)  # noqa: T201  # the one place that complains
    except OSError:
        pass  # nobody can be told, and the code says it as well
    return code


def _unexpected(error: Exception) -> str:
    from auditor.cli.startup import exhausted

    if os.environ.get("AUDITOR_TRACEBACK"):
        import traceback

        traceback.print_exception(error)
    lack = exhausted(error)
    if lack is not None:
        return f"{lack}: nothing was decided"
    message = f"{type(error).__name__}: {error}"
    return f"unexpected error, nothing was decided: {message} (AUDITOR_TRACEBACK=1 shows where)"


def entry() -> "NoReturn":
    """The console script: it ends with a code of the contract, whatever this machine refuses.

    It leaves without freeing memory piece by piece, which the end of the process does.
    """
    code, said = INCOMPLETE, b"auditor: out of memory: nothing was decided\n"
    try:
        try:
            from auditor.cli import startup

            startup.end_in_order_when_told()
            startup.hold_streams()
            startup.print_in_any_encoding()
            startup.let_no_library_decide(limited=True)
            startup.keep_freed_memory()
            startup.without_collector()
            startup.without_plugins()
            code = main(alone=True)
            said = b""
        except KeyboardInterrupt:
            said = b"auditor: cancelled\n"
        except Exception as error:  # the edge of the process: `main` itself could not be had, or could not say why
            reason = "out of memory" if isinstance(error, MemoryError) else f"{type(error).__name__}: {error}"
            said = f"auditor: {ascii(reason)[1:-1]}: nothing was decided\n".encode()
        if said:
            os.write(2, said)
    except BaseException:  # noqa: S110  # a last interruption, or nobody to tell
        pass
    finally:
        os._exit(code)
