"""`auditor rules`: the catalogue of rules."""

import argparse

from auditor.cli.streams import write_out


def options(parser: argparse.ArgumentParser) -> None:  # the catalogue takes none
    """It has none."""


def run(options: argparse.Namespace) -> int:  # noqa: ARG001  # every command takes the options
    """Print a line for each rule."""
    from auditor.rules import catalogue

    for module in catalogue():
        rule = module.rule
        write_out(f"{rule.id}  {rule.severity.value:7}  {rule.slug:30}  {rule.title}\n")
    return 0
