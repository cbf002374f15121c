"""`auditor schema NAME`: a JSON Schema."""

import argparse

from auditor.cli.streams import write_out


def options(parser: argparse.ArgumentParser) -> None:
    """The schema's name."""
    names = "config, config-v3.2, index, policy, report, rule, finding or diff"
    parser.add_argument("name", metavar="NAME", nargs="?", help=names)


def run(options: argparse.Namespace) -> int:
    """Print the schema."""
    import json

    from auditor.errors import UsageError
    from auditor_schemas.published import SCHEMAS

    if options.name not in SCHEMAS:
        raise UsageError(f"schema needs a NAME: one of {', '.join(sorted(SCHEMAS))}")
    write_out(json.dumps(SCHEMAS[options.name](), indent=2) + "\n")
    return 0
