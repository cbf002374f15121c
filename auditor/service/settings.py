"""Everything an installation can set: from the environment, one TOML file, and files that hold a secret each."""

import base64
import os
import tomllib
from collections.abc import Iterator
from contextvars import ContextVar
from ipaddress import IPv4Network, IPv6Network
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, SecretStr, ValidationError
from pydantic_settings import (
    BaseSettings,
    InitSettingsSource,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    SettingsError,
)

from auditor.errors import UsageError
from auditor.text import nearest, shown

PREFIX = "AUDITOR_SERVICE_"
CONFIG = f"{PREFIX}CONFIG"
SECRETS = f"{PREFIX}SECRETS"

GIB = 1 << 30
_LARGEST = 1 << 20

# An attempt's process has another working folder than whoever gave the path.
Place = Annotated[Path, AfterValidator(lambda path: path.expanduser().absolute())]


def default_data() -> Path:
    """$XDG_DATA_HOME/auditor, or its place in the home folder."""
    base = Path(os.environ.get("XDG_DATA_HOME", ""))
    return (base if base.is_absolute() else Path("~/.local/share").expanduser()) / "auditor"


class Part(BaseModel):
    """A table of the settings."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Web(Part):
    """Who may ask what of the API and the pages, and how much."""

    public_read: bool = Field(default=False, description="Whether everything but tokens is shown without a token.")
    trusted_hosts: tuple[str, ...] = Field(
        default=(), description="Names that requests may use for this service, beside those of host and public_url."
    )
    proxies: tuple[str, ...] = Field(
        default=(), description="Addresses and networks of proxies, whose X-Forwarded-For and -Proto are believed."
    )
    reads: int = Field(default=6000, ge=0, description="Reads a minute by one token, or address without; 0: any.")
    writes: int = Field(default=600, ge=0, description="Other requests a minute by one token; 0: any number.")
    refusals: int = Field(default=60, ge=0, description="Wrong tokens a minute from one address; 0: any number.")
    body: int = Field(default=1 << 20, ge=1 << 10, le=64 << 20, description="The longest request, in bytes.")
    streams: int = Field(default=1000, ge=1, description="Event streams and waits that may be open at once.")
    streams_each: int = Field(default=250, ge=1, description="The same for one token, or address without one.")
    session_hours: int = Field(default=14 * 24, ge=1, description="How long a person stays signed in.")


class Queue(Part):
    """How many audits of one kind run at once."""

    each: int = Field(ge=0, le=1000, description="For each worker; 0: this worker takes none.")
    together: int | None = Field(default=None, ge=1, description="In all workers together.")
    hours: float = Field(gt=0, le=1000, description="The longest that one attempt may take, in hours.")
    memory: int = Field(ge=256 << 20, description="The most data memory of one attempt's process, in bytes.")


class Sources(Part):
    """What may be audited. Whatever is not named here is refused."""

    hosts: tuple[str, ...] = Field(
        default=("huggingface.co", "cdn-lfs.huggingface.co", "cas-bridge.xethub.hf.co"),
        description="Hosts that may be asked, the storage that they redirect to included.",
    )
    organisations: tuple[str, ...] | None = Field(
        default=None, description="Organisations of the hub; all of them where this is absent."
    )
    buckets: tuple[str, ...] = Field(default=(), description="Buckets, as s3://name, gs://name or az://name.")
    roots: tuple[Place, ...] = Field(default=(), description="Folders below which local checkpoints may be audited.")
    private: bool = Field(default=False, description="Whether private and link-local addresses may be connected to.")
    per_host: int = Field(default=4, ge=1, le=1000, description="Audits of one host at once, in all workers.")


def _signing(secret: SecretStr) -> SecretStr:
    """A secret of Standard Webhooks, so that a wrong one is found at the start and not by those who sign with it."""
    try:
        key = base64.b64decode(secret.get_secret_value().removeprefix("whsec_") + "==", validate=False)
    except ValueError:
        key = b""
    if not 24 <= len(key) <= 64:
        raise ValueError("a secret that signs is whsec_ and the base64 of 24 to 64 random bytes")
    return secret


class Push(Part):
    """What a push to a repository on GitHub means."""

    source: str = Field(description="What is audited; {commit} and {branch} stand for those of the push.")
    revision: str | None = Field(default=None, description="The revision of it, likewise.")


class Hook(Part):
    """What an incoming webhook asks for."""

    depth: Literal["headers", "sample", "full"] = Field(default="headers", description="How deep is audited.")
    policy: str | None = Field(default=None, description="The name of the policy; none where it is absent.")


class HubHook(Hook):
    """The hub's webhook, POST /v1/hooks/hub."""

    secret: SecretStr | None = Field(default=None, description="What the hub sends in X-Webhook-Secret; off if absent.")
    branches: tuple[str, ...] = Field(default=("main",), description="Branches that are audited, as patterns.")
    tags: tuple[str, ...] = Field(default=(), description="Tags that are audited, as patterns.")
    pulls: bool = Field(default=False, description="Whether pull requests (refs/pr/N) are audited.")


class GenericHook(Hook):
    """Webhooks that are signed as Standard Webhooks, POST /v1/hooks/generic."""

    secret: Annotated[SecretStr, AfterValidator(_signing)] | None = Field(
        default=None, description="whsec_… that senders sign with; off if absent."
    )


class GithubHook(Hook):
    """GitHub's pushes, POST /v1/hooks/github."""

    secret: SecretStr | None = Field(default=None, description="What X-Hub-Signature-256 is made with; off if absent.")
    branches: tuple[str, ...] = Field(default=("main",), description="Branches whose pushes count, as patterns.")
    tags: tuple[str, ...] = Field(default=(), description="Tags whose pushes count, as patterns.")
    repositories: dict[str, Push] = Field(
        default={}, description="What a push means, by owner/name of the repository; others are ignored."
    )


class Hooks(Part):
    """Webhooks in. Each is off until it has a secret."""

    hub: HubHook = Field(default=HubHook(), description="The Hugging Face hub's.")
    generic: GenericHook = Field(default=GenericHook(), description="Signed as Standard Webhooks.")
    github: GithubHook = Field(default=GithubHook(), description="GitHub's.")


class Notify(Part):
    """Notifications out, to targets that an administrator adds."""

    hosts: tuple[str, ...] = Field(
        default=("api.github.com", "gitlab.com", "huggingface.co"), description="Hosts that targets may be at."
    )
    private: bool = Field(default=False, description="Whether targets may have private and link-local addresses.")
    secrets: dict[str, SecretStr] = Field(
        default={}, description="Secrets by the names that targets give: whsec_… to sign with, or a token."
    )
    each: int = Field(default=8, ge=1, le=64, description="Deliveries at once, for each worker.")
    per_target: int = Field(default=4, ge=1, le=64, description="Deliveries to one target at once, in all workers.")


class Retention(Part):
    """Which audits are removed, with all that was kept for them. Pinned ones and each checkpoint's latest stay."""

    days: float | None = Field(
        default=None, gt=0, le=36500, description="Those that ended longer ago; none by age where this is absent."
    )
    each: int | None = Field(
        default=None, ge=1, description="All but so many of each checkpoint; none by number where this is absent."
    )


class Metrics(Part):
    """Who may read /metrics. Nobody beyond this machine, unless one of these says so."""

    addresses: tuple[IPv4Network | IPv6Network, ...] = Field(
        default=(IPv4Network("127.0.0.0/8"), IPv6Network("::1/128")),
        description="Networks that may, as seen by this process: behind a proxy on this machine nobody is local.",
    )
    tokens: bool = Field(default=False, description="Whether a token of scope read may, from any address.")


class Settings(BaseSettings):
    """The settings, by the names of the environment: AUDITOR_SERVICE_PORT, AUDITOR_SERVICE_HEADERS__EACH."""

    model_config = SettingsConfigDict(
        env_prefix=PREFIX,
        env_nested_delimiter="__",
        extra="forbid",
        frozen=True,
        nested_model_default_partial_update=True,
    )

    data: Place = Field(default_factory=default_data, description="The folder of the database, reports and work.")
    database: SecretStr | None = Field(
        default=None, description="postgresql://… ; a SQLite file in the data folder where this is absent."
    )
    reports: str | None = Field(
        default=None, description="A folder, s3://, gs:// or az:// for reports; in the data folder where absent."
    )
    host: str = Field(default="127.0.0.1", description="The address that is listened at.")
    port: int = Field(default=8765, ge=0, le=65535, description="The port; 0 takes any that is free.")
    public_url: str | None = Field(default=None, description="How others reach the service, for links.")
    web: Web = Field(default=Web(), description="Who may ask what, and how much.")
    role: Literal["all", "api", "worker"] = Field(default="all", description="What this process runs.")
    log_level: Literal["debug", "info", "warning", "error"] = Field(default="info", description="What is logged.")
    headers: Queue = Field(default=Queue(each=2, hours=1, memory=4 * GIB), description="Audits at depth headers.")
    content: Queue = Field(
        default=Queue(each=1, hours=48, memory=16 * GIB), description="Audits at depth sample or full."
    )
    attempts: int = Field(default=3, ge=1, le=20, description="Attempts of one audit.")
    waiting: int = Field(default=50_000, ge=1, description="Audits that may be queued.")
    device: Literal["auto", "cpu", "cuda"] = Field(default="auto", description="What computes on tensor data.")
    jobs: int | None = Field(
        default=None, ge=1, description="Threads that read tensor data; one for each core if absent."
    )
    open_files: int = Field(default=4096, ge=256, description="Files that one attempt's process may have open.")
    nice: int = Field(default=10, ge=0, le=19, description="How much lower the priority of attempts is.")
    sources: Sources = Field(default=Sources(), description="What may be audited.")
    hooks: Hooks = Field(default=Hooks(), description="Webhooks in.")
    notify: Notify = Field(default=Notify(), description="Notifications out.")
    metrics: Metrics = Field(default=Metrics(), description="Who may read /metrics.")
    retention: Retention = Field(default=Retention(), description="Which audits are removed.")

    @property
    def database_url(self) -> str:
        """Where rows are kept."""
        if self.database is not None:
            return self.database.get_secret_value()
        return f"sqlite:///{self.data / 'auditor.sqlite3'}"

    @property
    def reports_place(self) -> str:
        """Where reports are kept."""
        return self.reports or str(self.data / "reports")

    @property
    def work(self) -> Path:
        """Where attempts keep what they have finished, until their audit ends."""
        return self.data / "work"

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,  # noqa: ARG003  # pydantic-settings names the parameters
        file_secret_settings: PydanticBaseSettingsSource,  # noqa: ARG003  # likewise
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Arguments outrank the environment, which outranks secrets from files, which outrank the TOML file."""
        secrets, file = _secrets(), _toml()
        return (
            init_settings,
            env_settings,
            InitSettingsSource(settings_cls, secrets),
            InitSettingsSource(settings_cls, file),
        )


_config: ContextVar[Path | None] = ContextVar("config", default=None)


def load(config: Path | None = None, **given: Any) -> Settings:
    """The settings, with the TOML file `config` or the environment's. Raises UsageError that names what is wrong."""
    token = _config.set(config)
    try:
        return Settings(**{name: value for name, value in given.items() if value is not None})
    except ValidationError as error:
        said = "; ".join(_fault(each) for each in error.errors(include_url=False, include_input=False))
        raise UsageError(said) from None  # what was given may be a secret
    except SettingsError as error:
        raise UsageError(f"settings: {shown(str(error))}: needs JSON") from None
    finally:
        _config.reset(token)


def unknown_variables() -> list[str]:
    """Variables of the environment that look like settings and are none."""
    known = {PREFIX + name.upper() for name in Settings.model_fields} | {CONFIG, SECRETS}
    return sorted(
        each for each in os.environ if each.startswith(PREFIX) and each.partition("__")[0].upper() not in known
    )


def _config_file() -> Path | None:
    named = _config.get() or os.environ.get(CONFIG)
    return Path(named) if named else None


def _toml() -> dict[str, Any]:
    file = _config_file()
    if file is None:
        return {}
    try:
        with file.open("rb") as opened:
            text = opened.read(_LARGEST + 1)
        if len(text) > _LARGEST:
            raise UsageError(f"settings {shown(str(file))}: longer than {_LARGEST:,} bytes")
        return tomllib.loads(text.decode())
    except OSError as error:
        raise UsageError(f"settings {shown(str(file))}: {error.strerror}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, RecursionError) as error:
        raise UsageError(f"settings {shown(str(file))}: not TOML: {shown(str(error))}") from None


def _secrets() -> dict[str, Any]:
    """A file for each setting, by its name; `__` leads into a table. Hidden files are others' business."""
    folder = os.environ.get(SECRETS)
    found: dict[str, Any] = {}
    if not folder:
        return found
    try:
        for file in sorted(Path(folder).iterdir()):
            if not file.name.startswith(".") and file.is_file():
                *tables, name = file.name.split("__")
                table = found
                for each in tables:
                    table = table.setdefault(each, {})
                table[name] = file.read_text(encoding="utf-8").strip()
    except OSError as error:
        raise UsageError(f"{SECRETS} {shown(str(error.filename or folder))}: {error.strerror}") from None
    except UnicodeDecodeError:
        raise UsageError(f"{SECRETS} {shown(folder)}: {shown(file.name)} is not UTF-8") from None
    return found


def _fault(error: Any) -> str:
    """One line: where, and what is wrong. What was given is not told."""
    where = [str(each)[:80] for each in error["loc"]]
    named = shown(".".join(where))
    if error["type"] == "extra_forbidden":
        here = _fields(where[:-1])
        said = f"no such setting{nearest(where[-1], here)}"
    else:
        message = error["msg"].removeprefix("Value error, ")
        said = message[:1].lower() + message[1:]
    return f"{_origin(where)}{named}: {said}"


def _origin(where: list[str]) -> str:
    """What gave the setting, as far as that can be told."""
    variable = PREFIX + "__".join(where).upper()
    if any(variable == each or variable.startswith(f"{each}__") for each in map(str.upper, os.environ)):
        return "environment: "
    for place, table in ((os.environ.get(SECRETS), _secrets()), (_config_file(), _toml())):
        if place and _has(table, where):
            return f"settings {shown(str(place))}: "
    return ""


def _has(table: Any, where: list[str]) -> bool:
    for each in where:
        if not isinstance(table, dict) or each not in table:
            return not isinstance(table, dict)
        table = table[each]
    return True


def _fields(where: list[str]) -> list[str]:
    """The names of the settings at a place."""
    model: Any = Settings
    for each in where:
        field = getattr(model, "model_fields", {}).get(each)
        model = field.annotation if field is not None else None
    return list(getattr(model, "model_fields", ()))


def described(model: type[BaseModel] = Settings, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Every setting by its dotted name with its field; tables come before what is in them."""
    for name, field in model.model_fields.items():
        yield f"{prefix}{name}", field
        inner = field.annotation
        if isinstance(inner, type) and issubclass(inner, BaseModel):
            yield from described(inner, f"{prefix}{name}.")
