"""One HTML document: template, style and scripts, under a policy that allows these alone, by their hashes."""

import base64
import hashlib
from collections.abc import Sequence
from functools import cache
from typing import Any

from jinja2 import BaseLoader, Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from auditor_reports import text


def compose(template: str, *, style: str, scripts: Sequence[str] = (), trusted: bool = False, **values: Any) -> str:
    """The template with its values; `style` and `scripts` name files of the package. Every text is escaped and shown.

    `trusted`: scripts never parse markup, and the policy holds them to that.
    """
    environment = _own()
    css = block(environment, style)
    code = Markup("").join(block(environment, each) for each in scripts)
    policy = [
        "default-src 'none'",
        f"style-src '{_hash(css)}'",
        f"script-src '{_hash(code)}'" if scripts else "script-src 'none'",
        "base-uri 'none'",
        "form-action 'none'",
    ]
    if trusted:
        policy += ["require-trusted-types-for 'script'", "trusted-types 'none'"]
    return environment.get_template(template).render(policy="; ".join(policy), style=css, script=code, **values)


def environment_of(loader: BaseLoader) -> Environment:
    """Templates fail on an undefined name, and no string reaches a page without passing `shown`."""
    return Environment(
        autoescape=True,
        undefined=StrictUndefined,
        loader=loader,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=_finalize,
    )


def block(environment: Environment, name: str) -> Markup:
    """A file of a package, exactly as it stands between its tags: the policy's hash covers every character."""
    assert environment.loader is not None
    return Markup(environment.loader.get_source(environment, name)[0])  # noqa: S704  # no file but a package's own


@cache
def _own() -> Environment:
    return environment_of(PackageLoader("auditor_reports"))


def _finalize(output: Any) -> Any:
    return text.shown(output) if isinstance(output, str) and not isinstance(output, Markup) else output


def _hash(source: str) -> str:
    return f"sha256-{base64.b64encode(hashlib.sha256(source.encode()).digest()).decode()}"
