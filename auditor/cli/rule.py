"""`auditor rule ID`: one rule's page."""

import argparse

from auditor.cli.streams import write_out


def options(parser: argparse.ArgumentParser) -> None:
    """The rule."""
    parser.add_argument("rule", metavar="ID", help="a rule's id or slug, such as QNT102 or mismatched-block-scale")


def run(options: argparse.Namespace) -> int:
    """Print the page."""
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
    write_out(page(rule))
    return 0
