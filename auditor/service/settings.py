"""Everything an installation can set: from the environment, one TOML file, and files that hold a secret each."""

import base64
import os
from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, SecretStr
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict, TomlConfigSettingsSource

PREFIX = "AUDITOR_SERVICE_"
CONFIG = f"{PREFIX}CONFIG"
SECRETS = f"{PREFIX}SECRETS"

GIB = 1 << 30


def default_data() -> Path:
    """$XDG_DATA_HOME/auditor, or its place in the home folder."""
    base = Path(os.environ.get("XDG_DATA_HOME", ""))
    return (base if base.is_absolute() else Path("~/.local/share").expanduser()) / "auditor"


class Part(BaseModel):
    """A table of the settings."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Queue(Part):
    """How many audits of one kind run at once."""

    each: int = Field(ge=0, le=1000, description="For each worker; 0: this worker takes none.")
    together: int | None = Field(default=None, ge=1, description="In all workers together.")
    hours: float = Field(gt=0, le=1000, description="The longest that one attempt may take.")
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
    roots: tuple[Path, ...] = Field(default=(), description="Folders below which local checkpoints may be audited.")
    private: bool = Field(default=False, description="Whether private and link-local addresses may be connected to.")
    per_host: int = Field(default=4, ge=1, le=1000, description="Audits of one host at once, in all workers.")


def _signing(secret: SecretStr) -> SecretStr:
    """A secret of Standard Webhooks, so that a wrong one is found at the start and not by those who sign with it."""
    try:
        key = base64.b64decode(secret.get_secret_value().removeprefix("whsec_") + "==", validate=False)
    except ValueError:
        key = b""
    if len(key) < 16:
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
    per_target: int = Field(default=2, ge=1, le=64, description="Deliveries to one target at once, in all workers.")


class Settings(BaseSettings):
    """The settings, by the names of the environment: AUDITOR_SERVICE_PORT, AUDITOR_SERVICE_HEADERS__EACH."""

    model_config = SettingsConfigDict(
        env_prefix=PREFIX,
        env_nested_delimiter="__",
        extra="forbid",
        frozen=True,
        nested_model_default_partial_update=True,
    )

    data: Path = Field(default_factory=default_data, description="The folder of the database, reports and work.")
    database: SecretStr | None = Field(
        default=None, description="postgresql://… ; a SQLite file in the data folder where this is absent."
    )
    reports: str | None = Field(
        default=None, description="A folder, s3://, gs:// or az:// for reports; in the data folder where absent."
    )
    host: str = Field(default="127.0.0.1", description="The address that is listened at.")
    port: int = Field(default=8765, ge=0, le=65535, description="The port; 0 takes any that is free.")
    public_url: str | None = Field(default=None, description="How others reach the service, for links.")
    role: Literal["all", "api", "worker"] = Field(default="all", description="What this process runs.")
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
        from pydantic_settings import SecretsSettingsSource

        every = [init_settings, env_settings]
        if folder := os.environ.get(SECRETS):
            every.append(SecretsSettingsSource(settings_cls, secrets_dir=folder, env_prefix=""))
        if file := os.environ.get(CONFIG):
            every.append(TomlConfigSettingsSource(settings_cls, toml_file=file))
        return tuple(every)
