"""`auditor service …`: administration of an installation, on its database, without its API."""

import argparse

from auditor.cli import service_lists, service_options
from auditor.cli.service_options import ActionParser, action
from auditor.cli.streams import complain, write_out

TYPE_CHECKING = False  # typing itself costs an import
if TYPE_CHECKING:
    from auditor.service.settings import Settings

FAILED, INCOMPLETE = 1, 3


def options(parser: argparse.ArgumentParser) -> None:
    """What to do, and with which installation."""
    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True, parser_class=ActionParser)
    action(actions, "migrate", _migrate, "bring the database to this version's schema, while the service is stopped")
    backup = action(actions, "backup", _backup, "copy database and reports into a folder, beside a running service")
    backup.add_argument("folder", metavar="DIR", help="a folder that is empty or not there")
    restore = action(actions, "restore", _restore, "put a backup into an empty data folder or database")
    restore.add_argument("folder", metavar="DIR", help="what `backup` wrote")
    doctor = action(actions, "doctor", _doctor, "say what is wrong with an installation, and what mends it")
    doctor.add_argument("--online", action="store_true", help="also connect to the hosts that may be audited")
    export = action(actions, "export", _export, "write the static site of `auditor publish` from the stored reports")
    export.add_argument("folder", metavar="DIR", help="the site's folder, made or added to")
    service_lists.options(actions)


def run(options: argparse.Namespace) -> int:
    """Do it."""
    from auditor.errors import UsageError

    try:
        settings = service_options.settings(options)
    except UsageError as error:
        if options.act is not _doctor or isinstance(error, service_options.MissingError):
            raise
        write_out(f"wrong  settings: {error}\n")
        return FAILED
    try:
        code: int = options.act(options, settings)
    except ImportError as error:
        raise service_options.missing(error) from None
    return code


# --- the installation as a whole ---


def _migrate(options: argparse.Namespace, settings: "Settings") -> int:  # noqa: ARG001  # every action takes them
    from auditor.service.operate.migration import bring_up

    write_out(f"{bring_up(settings)}\n")
    return 0


def _backup(options: argparse.Namespace, settings: "Settings") -> int:
    from auditor.service.operate.backup import backup
    from auditor.service.operate.opened import opened

    with opened(settings) as installation:
        made = backup(installation, options.folder)
    write_out(f"{made.summary()}\n")
    for name in made.missing:
        complain(f"report {name} is not there, or not intact: an audit names it, and the backup lacks it", INCOMPLETE)
    return INCOMPLETE if made.missing else 0


def _restore(options: argparse.Namespace, settings: "Settings") -> int:
    from auditor.service.operate.restore import restore

    write_out(f"{restore(settings, options.folder).summary()}\n")
    return 0


def _doctor(options: argparse.Namespace, settings: "Settings") -> int:
    from auditor.service.operate.doctor import examine

    marks = set()
    for line in examine(settings, online=options.online):
        write_out(f"{line}\n")
        marks.add(line.mark)
    return FAILED if "wrong" in marks else 0


def _export(options: argparse.Namespace, settings: "Settings") -> int:
    from auditor.service.operate.export import export
    from auditor.service.operate.opened import opened

    with opened(settings) as installation:
        said, lost = export(installation, options.folder)
    write_out(f"{said}\n")
    for name in lost:
        complain(f"report {name} is not there, or not intact: the site lacks it", INCOMPLETE)
    return INCOMPLETE if lost else 0
