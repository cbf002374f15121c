"""`auditor tensor SOURCE NAME`: one tensor, as it is expected and as it is."""

import argparse

from auditor.cli.arguments import source
from auditor.cli.streams import write_out


def options(parser: argparse.ArgumentParser) -> None:
    """The checkpoint and the tensor."""
    source(parser)
    parser.add_argument("name", metavar="NAME", help="the tensor's full name")
    parser.add_argument("--family", metavar="NAME", help="expect the tensors of this model family")


def run(options: argparse.Namespace) -> int:
    """Print it; exit 1 where it is not as expected."""
    from auditor.questions.tensor import describe

    text, sound = describe(
        options.source,
        options.name,
        family=options.family,
        revision=options.revision,
        cache=not options.no_cache,
    )
    write_out(text)
    return 0 if sound else 1
