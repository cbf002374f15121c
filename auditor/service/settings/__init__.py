"""Everything an installation can set: from the environment, one TOML file, and files that hold a secret each."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, Field, SecretStr, ValidationError
from pydantic_settings import (
    BaseSettings,
    InitSettingsSource,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    SettingsError,
)

from auditor.content import ENGINES
from auditor.errors import UsageError
from auditor.service.settings import files
from auditor.service.settings.tables import Hooks, Metrics, Notify, Origin, Place, Queue, Retention, Sources, Web
from auditor.text import nearest, shown

PREFIX = "AUDITOR_SERVICE_"

GIB = 1 << 30


def default_data() -> Path:
    """$XDG_DATA_HOME/auditor, or its place in the home folder."""
    base = Path(os.environ.get("XDG_DATA_HOME", ""))
    return (base if base.is_absolute() else Path("~/.local/share").expanduser()) / "auditor"


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
    public_url: Origin | None = Field(default=None, description="How others reach the service, for links.")
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
    engine: str = Field(
        default="local",
        pattern=ENGINES,
        description="Where audits at depth full read: local, or ray or ray://HOST:PORT for the nodes of a Ray cluster.",
    )
    open_files: int = Field(default=4096, ge=256, description="Files that one attempt's process may have open.")
    nice: int = Field(
        default=10, ge=0, le=19, description="How much lower attempts' priority is; 0: they take turns with answers."
    )
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
        secrets, file = files.secrets(), files.toml()
        return (
            init_settings,
            env_settings,
            InitSettingsSource(settings_cls, secrets),
            InitSettingsSource(settings_cls, file),
        )


def load(config: Path | None = None, **given: Any) -> Settings:
    """The settings, with the TOML file `config` or the environment's. Raises UsageError that names what is wrong."""
    token = files.config.set(config)
    try:
        return Settings(**{name: value for name, value in given.items() if value is not None})
    except ValidationError as error:
        said = "; ".join(_fault(each) for each in error.errors(include_url=False, include_input=False))
        raise UsageError(said) from None  # what was given may be a secret
    except SettingsError as error:
        raise UsageError(f"settings: {shown(str(error))}: needs JSON") from None
    finally:
        files.config.reset(token)


def unknown_variables() -> list[str]:
    """Variables of the environment that look like settings and are none."""
    known = {PREFIX + name.upper() for name in Settings.model_fields} | {files.CONFIG, files.SECRETS}
    return sorted(
        each for each in os.environ if each.startswith(PREFIX) and each.partition("__")[0].upper() not in known
    )


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
    for place, table in ((os.environ.get(files.SECRETS), files.secrets()), (files.config_file(), files.toml())):
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
