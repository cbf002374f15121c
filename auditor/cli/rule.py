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
    from auditor.verdict.policy import no_such_rule, rule_named

    rules = [module.rule for module in catalogue()]
    rule = rule_named(options.rule, rules)
    if rule is None:
        raise UsageError(no_such_rule(options.rule, rules))
    write_out(page(rule))
    return 0
