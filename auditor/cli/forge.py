"""`auditor forge DIR`: a synthetic checkpoint, sound or with one defect."""

import argparse

from auditor.cli.streams import write_out


def options(parser: argparse.ArgumentParser) -> None:
    """Where, like what, and what is wrong with it."""
    parser.add_argument("directory", metavar="DIR", nargs="?", help="a new or empty folder")
    parser.add_argument("--like", metavar="NAME", default="tiny", help="which layout (default: tiny; see --list-likes)")
    parser.add_argument("--sparse", action="store_true", help="real headers, holes for data")
    parser.add_argument("--break", dest="break_name", metavar="NAME", help="one defect (see --list-breaks)")
    parser.add_argument("--list-breaks", action="store_true", help="list the defects and what they must produce")
    parser.add_argument("--list-likes", action="store_true", help="list the layouts")
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="seed of real content (default: 0)")
    parser.add_argument("--yes-689-gb", action="store_true", help="write 689 GB of real data")


def run(options: argparse.Namespace) -> int:
    """Write it, or list the layouts or defects."""
    from auditor.errors import UsageError
    from auditor.forge import LIKES, breaks, forge, plan_of

    if options.list_likes:
        write_out("".join(f"{name}\n" for name in LIKES))
        return 0

    if options.list_breaks:
        for each in breaks().values():
            severity = str(each.severity or "-")
            what = f"{each.name:36}  {each.rule or '-':6}  {severity:7}  exit {each.exit_code}  {each.depth:7}"
            write_out(f"{what}  {each.title}\n")
        return 0
    if options.directory is None:
        raise UsageError("forge needs a DIR to write to, or --list-breaks")
    if options.like != "tiny" and not options.sparse and not options.yes_689_gb:
        data = f"{sum(shard.payload for shard in plan_of(options.like).shards) / 1e9:,.0f} GB"
        raise UsageError(f"--like {options.like} is {data} of real data: add --sparse, or --yes-689-gb to write it all")
    from pathlib import Path

    forged = forge(
        Path(options.directory),
        like=options.like,
        sparse=options.sparse,
        break_name=options.break_name,
        seed=options.seed,
    )
    write_out(f"{forged.summary()}\n", only_files=True)
    return 0
