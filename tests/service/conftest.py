"""What tests of the service share: both databases, an installation on each, and a checkpoint to audit."""

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from auditor.forge import forge
from auditor.service import migrate
from auditor.service.installation import Installation, open_installation
from auditor.service.settings import Settings
from auditor.service.store.database import Database
from tests.servers.postgres import Postgres


@pytest.fixture(scope="session")
def postgres() -> Iterator[Postgres]:
    """A PostgreSQL of this test process."""
    try:
        server = Postgres()
    except LookupError as lack:
        if os.environ.get("CI"):
            raise
        pytest.skip(str(lack))
    yield server
    server.close()


@pytest.fixture(scope="session")
def migrated(postgres: Postgres) -> str:
    """The name of a PostgreSQL database with the schema, to be copied."""
    url = postgres.database()
    database = Database(url)
    migrate.apply(database)
    database.close()
    return url.rpartition("/")[2]


@pytest.fixture(scope="session")
def migrated_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A SQLite file with the schema, to be copied."""
    file = tmp_path_factory.mktemp("schema") / "auditor.sqlite3"
    database = Database(f"sqlite:///{file}")
    migrate.apply(database)
    database.close()
    return file


@pytest.fixture
def sqlite_url(migrated_file: Path, tmp_path: Path) -> str:
    """The URL of a new SQLite database with the schema, in the data folder."""
    data = tmp_path / "data"
    data.mkdir(mode=0o700)
    shutil.copy(migrated_file, data / "auditor.sqlite3")
    return f"sqlite:///{data / 'auditor.sqlite3'}"


@pytest.fixture(params=["sqlite", "postgresql"])
def database_url(request: pytest.FixtureRequest) -> Iterator[str]:
    """The URL of a new database with the schema, of each kind."""
    if request.param == "sqlite":
        yield request.getfixturevalue("sqlite_url")
        return
    server: Postgres = request.getfixturevalue("postgres")
    url = server.database(request.getfixturevalue("migrated"))
    yield url
    server.drop(url)


@pytest.fixture
def settings(database_url: str, tmp_path: Path) -> Settings:
    """Settings of an installation that may audit what lies in the test's folder and the shared checkpoints."""
    return Settings(
        data=tmp_path / "data",
        database=database_url,
        port=0,
        sources={"roots": [tmp_path, tmp_path.parent.parent]},
    )


@pytest.fixture
def installation(settings: Settings) -> Iterator[Installation]:
    """An installation with its schema; no worker runs."""
    opened = open_installation(settings)
    yield opened
    opened.close()


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small sound checkpoint with content."""
    folder = tmp_path_factory.mktemp("checkpoint") / "tiny"
    forge(folder, like="tiny")
    return folder
