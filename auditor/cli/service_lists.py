"""`auditor service token|watch|target|policy …`: what an installation keeps, listed and changed on its database."""

import argparse

from auditor.cli.service_options import action, group
from auditor.cli.streams import complain, write_out

TYPE_CHECKING = False  # typing itself costs an import
if TYPE_CHECKING:
    from collections.abc import Callable

    from auditor.cli.service_options import Actions
    from auditor.service.notify.targets import Targets
    from auditor.service.settings import Settings


def options(actions: "Actions") -> None:
    """What there is to list and to change."""
    _token_options(group(actions, "token", "who may ask for what"))
    _watch_options(group(actions, "watch", "checkpoints that are looked at again and again", meant="add"))
    _target_options(group(actions, "target", "who is told of every final state"))
    _policy_options(group(actions, "policy", "the policies that audits may be asked for with, by name"))


# --- tokens ---


def _token_options(actions: "Actions") -> None:
    create = action(actions, "create", _token_create, "make a token, which is printed this once")
    create.add_argument("name", metavar="NAME", help="whose it is, as lists show it")
    create.add_argument("--scope", choices=("read", "submit", "admin"), default="submit", help="default: submit")
    create.add_argument("--days", type=_days, metavar="N", help="how long it is good; until it is revoked if absent")
    action(actions, "list", _token_list, "every token, without itself")
    revoke = action(actions, "revoke", _token_revoke, "end a token and its sessions at once")
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
    if not text.isascii() or not text.isdigit() or not 1 <= int(text[:9]) <= 36500:
        raise argparse.ArgumentTypeError(f"{text!r}: needs 1 to 36500 days")
    return int(text)


# --- policies ---


def _policy_options(actions: "Actions") -> None:
    add = action(actions, "add", _policy_add, "keep a policy under a name, in the place of what had that name")
    add.add_argument("name", metavar="NAME", help="what submitters call it")
    add.add_argument("file", metavar="FILE", help="a policy as `audit --policy` takes it")
    action(actions, "list", _policy_list, "every policy, with its SHA-256")
    show = action(actions, "show", _policy_show, "print a policy")
    show.add_argument("name", metavar="NAME", help="as `list` has it")
    remove = action(actions, "remove", _policy_remove, "forget a policy; audits that were asked for with it keep it")
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
    add = action(
        actions,
        "add",
        _watch_add,
        "look at a checkpoint now and again, and audit it where it has changed; `watch SOURCE` does the same",
    )
    add.add_argument("source", metavar="SOURCE", help="hf://org/name, https://, s3://, gs:// or az://")
    add.add_argument("--every", metavar="TIME", default="1h", help="how often, as 30m, 6h or 1d (default: 1h)")
    add.add_argument("--revision", metavar="REV", help="the hub's branch or tag (default: main)")
    add.add_argument("--depth", choices=("headers", "sample", "full"), default="headers", help="default: headers")
    add.add_argument("--policy", metavar="NAME", help="as `policy list` has it")
    action(actions, "list", _watch_list, "every watch, with what was found last")
    remove = action(actions, "remove", _watch_remove, "end a watch")
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


# --- targets ---


def _target_options(actions: "Actions") -> None:
    add = action(actions, "add", _target_add, "tell a target of all that ends from now on")
    add.add_argument("kind", metavar="KIND", help="webhook, github, gitlab or hub")
    add.add_argument("name", metavar="NAME", help="what people call it")
    add.add_argument(
        "options",
        metavar="OPTION=VALUE",
        nargs="+",
        help="what the kind needs, as secret=NAME url=https://… or repositories=org/*,other/*; "
        "the secret is named, and is itself in the settings (notify.secrets)",
    )
    action(actions, "list", _target_list, "every target, and whether it is told")
    off = action(actions, "off", _target_off, "tell a target no more, until it is on again")
    on = action(actions, "on", _target_on, "tell a target again, of all that ends from now on")
    remove = action(actions, "remove", _target_remove, "forget a target with its deliveries")
    for each in (off, on, remove):
        each.add_argument("id", metavar="ID", help="as `list` has it")


def _target_add(options: argparse.Namespace, settings: "Settings") -> int:
    from auditor.service.notify.targets import Targets
    from auditor.service.operate.opened import opened
    from auditor.service.operate.targets import read

    given = read(options.kind, options.options)
    with opened(settings) as installation:
        made = Targets(installation.database, settings).add(options.kind, options.name, given)
    write_out(f"{made}\n")
    return 0


def _target_list(options: argparse.Namespace, settings: "Settings") -> int:  # noqa: ARG001  # every action takes them
    from auditor.service.operate.opened import opened
    from auditor.service.operate.targets import lines

    with opened(settings) as installation:
        write_out("".join(f"{line}\n" for line in lines(installation)))
    return 0


def _target_off(options: argparse.Namespace, settings: "Settings") -> int:
    return _changed(options, settings, lambda targets: targets.off(options.id, "switched off by an administrator"))


def _target_on(options: argparse.Namespace, settings: "Settings") -> int:
    return _changed(options, settings, lambda targets: targets.on(options.id))


def _target_remove(options: argparse.Namespace, settings: "Settings") -> int:
    return _changed(options, settings, lambda targets: targets.remove(options.id), "removed")


def _changed(
    options: argparse.Namespace, settings: "Settings", change: "Callable[[Targets], bool]", done: str | None = None
) -> int:
    from auditor.errors import UsageError
    from auditor.service.notify.targets import Targets
    from auditor.service.operate.opened import opened
    from auditor.text import quoted

    with opened(settings) as installation:
        if not change(Targets(installation.database, settings)):
            raise UsageError(f"no target {quoted(options.id)}: `auditor service target list` has them")
    write_out(f"{options.id}: {done or options.what}\n")
    return 0
