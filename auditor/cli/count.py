"""`auditor count SOURCE|CONFIG`: parameter figures by every convention."""

import argparse

from auditor.cli.arguments import source
from auditor.cli.streams import complain

TYPE_CHECKING = False  # typing itself costs an import
if TYPE_CHECKING:
    from typing import Any


def options(parser: argparse.ArgumentParser) -> None:
    """What to count, and where the figures go."""
    source(parser, "SOURCE|CONFIG", "a config.json, ")
    parser.add_argument("--family", metavar="NAME", help="count as this model family")
    parser.add_argument("--json", metavar="FILE", help="write the figures as JSON ('-' is standard output)")


def run(options: argparse.Namespace) -> int:
    """Print or write the figures; exit 1 where headers and config.json differ."""
    from auditor.cli.outputs import check_outputs, targets_of, write_all
    from auditor.questions.count import InvalidConfigError, count_parameters

    targets = targets_of(options)
    check_outputs(targets, sources=[options.source])
    try:
        result = count_parameters(
            options.source, family=options.family, revision=options.revision, cache=not options.no_cache
        )
    except InvalidConfigError as error:
        return complain(str(error), 1)

    def written() -> str:
        import json

        from auditor.text import shown_json

        return shown_json(json.dumps(result, indent=2)) + "\n"

    outputs = [(target, written) for target in targets.values()]
    return write_all(outputs, lambda: _show(result), 1 if result["agree"] is False else 0)


def _show(result: "dict[str, Any]") -> None:
    from rich.table import Table

    from auditor.cli.terminal import console_of, show_figures, styled
    from auditor.text import shown
    from auditor_schemas.figures import Figure

    console = console_of()
    console.print(styled(f"{shown(result['source'])}: {result['family']}", "bold"))
    show_figures(console, tuple(Figure.model_validate(each) for each in result["figures"]))
    console.print()
    table = Table(box=None, pad_edge=False, header_style="bold", show_edge=False)
    table.add_column("component", no_wrap=True)
    table.add_column("from config", justify="right")
    headers = any(each["from_headers"] is not None for each in result["components"])
    if headers:
        table.add_column("from headers", justify="right")
    for each in result["components"]:
        cells = [each["component"].replace("_", " "), f"{each['from_config']:,}"]
        if headers:
            mark = "" if each["from_headers"] == each["from_config"] else "  differs"
            cells.append(f"{each['from_headers']:,}{mark}")
        table.add_row(*map(styled, cells))
    console.print(table)
