"""`auditor service …`: administration of an installation, on its database, without its API."""

import argparse

from auditor.cli import service_options
from auditor.cli.streams import complain, write_out

TYPE_CHECKING = False  # typing itself costs an import
if TYPE_CHECKING:
    from collections.abc import Callable

    from auditor.service.settings import Settings

    Actions = argparse._SubParsersAction[argparse.ArgumentParser]
    Act = Callable[[argparse.Namespace, Settings], int]

FAILED, INCOMPLETE = 1, 3


def options(parser: argparse.ArgumentParser) -> None:
    """What to do, and with which installation."""
    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True)
    _action(actions, "migrate", _migrate, "bring the database to this version's schema, while the service is stopped")
    backup = _action(actions, "backup", _backup, "copy database and reports into a folder, beside a running service")
    backup.add_argument("folder", metavar="DIR", help="a folder that is empty or not there")
    restore = _action(actions, "restore", _restore, "put a backup into an empty data folder or database")
    restore.add_argument("folder", metavar="DIR", help="what `backup` wrote")
    doctor = _action(actions, "doctor", _doctor, "say what is wrong with an installation, and what mends it")
    doctor.add_argument("--online", action="store_true", help="also connect to the hosts that may be audited")
    export = _action(actions, "export", _export, "write the static site of `auditor publish` from the stored reports")
    export.add_argument("folder", metavar="DIR", help="the site's folder, made or added to")
    _token_options(_group(actions, "token", "who may ask for what"))
    _watch_options(_group(actions, "watch", "checkpoints that are looked at again and again"))
    _policy_options(_group(actions, "policy", "the policies that audits may be asked for with, by name"))


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


def _action(actions: "Actions", name: str, act: "Act", text: str) -> argparse.ArgumentParser:
    parser: argparse.ArgumentParser = actions.add_parser(name, help=text, description=f"{text[:1].upper()}{text[1:]}.")
    parser.set_defaults(act=act)
    service_options.options(parser)
    return parser


def _group(actions: "Actions", name: str, text: str) -> "Actions":
    group = actions.add_parser(name, help=text, description=f"{text[:1].upper()}{text[1:]}.")
    return group.add_subparsers(dest="what", metavar="WHAT", required=True)


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


# --- tokens ---


def _token_options(actions: "Actions") -> None:
    create = _action(actions, "create", _token_create, "make a token, which is printed this once")
    create.add_argument("name", metavar="NAME", help="whose it is, as lists show it")
    create.add_argument("--scope", choices=("read", "submit", "admin"), default="submit", help="default: submit")
    create.add_argument("--days", type=_days, metavar="N", help="how long it is good; until it is revoked if absent")
    _action(actions, "list", _token_list, "every token, without itself")
    revoke = _action(actions, "revoke", _token_revoke, "end a token and its sessions at once")
    revoke.add_argument("id", metavar="ID", help="as `list` has it")


def _token_create(options: argparse.Namespace, settings: "Settings") -> int:
    from auditor.service.access.tokens import Tokens
    from auditor.service.operate.opened import opened
    from auditor.text import shown

    with opened(settings) as installation:
        made = Tokens(installation.database).create(shown(options.name)[:100], [options.scope], days=options.days)
    write_out(f"{made.token}\n")
    complain(f"token {made.id}: it is not shown again", 0)
    return 0


def _token_list(options: argparse.Namespace, settings: "Settings") -> int:  # noqa: ARG001  # every action takes them
    from auditor.service.operate.opened import opened
    from auditor.service.operate.tokens import lines

    with opened(settings) as installation:
        write_out("".join(f"{line}\n" for line in lines(installation.database)))
    return 0


def _token_revoke(options: argparse.Namespace, settings: "Settings") -> int:
    from auditor.errors import UsageError
    from auditor.service.access.tokens import Tokens
    from auditor.service.operate.opened import opened
    from auditor.text import quoted

    with opened(settings) as installation:
        if not Tokens(installation.database).revoke(options.id):
            raise UsageError(f"no token {quoted(options.id)}: `auditor service token list` has them")
    write_out(f"{options.id}: revoked\n")
    return 0


def _days(text: str) -> int:
    days = int(text)
    if not 1 <= days <= 36500:
        raise argparse.ArgumentTypeError(f"{days}: needs 1 to 36500 days")
    return days


# --- policies ---


def _policy_options(actions: "Actions") -> None:
    add = _action(actions, "add", _policy_add, "keep a policy under a name, in the place of what had that name")
    add.add_argument("name", metavar="NAME", help="what submitters call it")
    add.add_argument("file", metavar="FILE", help="a policy as `audit --policy` takes it")
    _action(actions, "list", _policy_list, "every policy, with its SHA-256")
    show = _action(actions, "show", _policy_show, "print a policy")
    show.add_argument("name", metavar="NAME", help="as `list` has it")
    remove = _action(actions, "remove", _policy_remove, "forget a policy; audits that were asked for with it keep it")
    remove.add_argument("name", metavar="NAME", help="as `list` has it")


def _policy_add(options: argparse.Namespace, settings: "Settings") -> int:
    from auditor.service.audits import policies
    from auditor.service.operate.opened import opened

    text = _text_of(options.file)
    with opened(settings) as installation:
        kept = policies.put(installation.database, options.name, text)
    write_out(f"{kept.sha256}  {kept.name}\n")
    return 0


def _text_of(file: str) -> str:
    from auditor.errors import UsageError
    from auditor.text import shown
    from auditor.verdict.policy import POLICY_BYTES

    try:
        with open(file, "rb") as opened:
            return opened.read(POLICY_BYTES + 1).decode()
    except OSError as error:
        raise UsageError(f"policy {shown(file)}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise UsageError(f"policy {shown(file)}: not UTF-8") from error


def _policy_list(options: argparse.Namespace, settings: "Settings") -> int:  # noqa: ARG001  # every action takes them
    from auditor.service.audits import policies
    from auditor.service.operate.opened import opened

    with opened(settings) as installation, installation.database.read() as connection:
        write_out("".join(f"{each.sha256}  {each.name}\n" for each in policies.every(connection)))
    return 0


def _policy_show(options: argparse.Namespace, settings: "Settings") -> int:
    from auditor.service.audits import policies
    from auditor.service.operate.opened import opened

    with opened(settings) as installation, installation.database.read() as connection:
        write_out(policies.named(connection, options.name).text)
    return 0


def _policy_remove(options: argparse.Namespace, settings: "Settings") -> int:
    from auditor.service.audits import policies
    from auditor.service.operate.opened import opened

    with opened(settings) as installation:
        policies.remove(installation.database, options.name)
    write_out(f"{options.name}: removed\n")
    return 0


# --- watches ---


def _watch_options(actions: "Actions") -> None:
    add = _action(actions, "add", _watch_add, "look at a checkpoint now and again, and audit it where it has changed")
    add.add_argument("source", metavar="SOURCE", help="hf://org/name, https://, s3://, gs:// or az://")
    add.add_argument("--every", metavar="TIME", default="1h", help="how often, as 30m, 6h or 1d (default: 1h)")
    add.add_argument("--revision", metavar="REV", help="the hub's branch or tag (default: main)")
    add.add_argument("--depth", choices=("headers", "sample", "full"), default="headers", help="default: headers")
    add.add_argument("--policy", metavar="NAME", help="as `policy list` has it")
    _action(actions, "list", _watch_list, "every watch, with what was found last")
    remove = _action(actions, "remove", _watch_remove, "end a watch")
    remove.add_argument("id", metavar="ID", help="as `list` has it")


def _watch_add(options: argparse.Namespace, settings: "Settings") -> int:
    from auditor.service.hooks.watches import Watches, seconds
    from auditor.service.operate.opened import opened

    every_s = seconds(options.every)
    with opened(settings) as installation:
        made = Watches(installation).add(
            options.source,
            every_s=every_s,
            revision=options.revision,
            depth=options.depth,
            policy=options.policy,
        )
    write_out(f"{made}\n")
    return 0


def _watch_list(options: argparse.Namespace, settings: "Settings") -> int:  # noqa: ARG001  # every action takes them
    from auditor.service.operate.opened import opened
    from auditor.service.operate.watching import lines

    with opened(settings) as installation:
        write_out("".join(f"{line}\n" for line in lines(installation)))
    return 0


def _watch_remove(options: argparse.Namespace, settings: "Settings") -> int:
    from auditor.errors import UsageError
    from auditor.service.hooks.watches import Watches
    from auditor.service.operate.opened import opened
    from auditor.text import quoted

    with opened(settings) as installation:
        if not Watches(installation).remove(options.id):
            raise UsageError(f"no watch {quoted(options.id)}: `auditor service watch list` has them")
    write_out(f"{options.id}: removed\n")
    return 0
