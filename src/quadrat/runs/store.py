"""The MLflow store: where it is, how it is opened quietly, and its errors in our words."""

from __future__ import annotations

import importlib.metadata
import logging
import os
import re
import sqlite3
import warnings
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from quadrat import border, servers, storage
from quadrat.errors import QuadratError, RunError
from quadrat.redaction import redact

FOLDER = "quadrat-work"
DATABASE = f"{FOLDER}/runs.db"
EXPERIMENT = "quadrat"

# Nothing leaves the machine unless the user names a server: no usage reports.
ENVIRONMENT = {"MLFLOW_DISABLE_TELEMETRY": "true", "DO_NOT_TRACK": "true"}


def resolve(tracking_uri: str | None) -> str:
    """The store's address; a path ending in `.db` means an SQLite file, None the default one.

    SQLite paths become absolute, so that the store is the same whatever the working folder is.
    """
    uri = tracking_uri or DATABASE
    if "://" not in uri and not uri.startswith("file:") and uri.endswith(".db"):
        uri = f"sqlite:///{uri}"
    if uri.startswith("sqlite:///"):
        path = Path(uri.removeprefix("sqlite:///")).expanduser().absolute()
        return f"sqlite:///{path}"
    return uri


def artifact_root(uri: str) -> str | None:
    """Where a new experiment's artifacts go: beside an SQLite file; a server decides itself."""
    if uri.startswith("sqlite:///"):
        return str(Path(uri.removeprefix("sqlite:///")).parent / "artifacts")
    if re.match(r"(postgresql|mysql|mssql)", uri):
        return str(Path(FOLDER, "artifacts").absolute())
    return None


def quiet_import() -> Any:
    """The mlflow module, without its chatter and its calls home."""
    os.environ.update(ENVIRONMENT)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import mlflow
    for name in ("mlflow", "alembic"):
        logging.getLogger(name).setLevel(logging.ERROR)
    return mlflow


def has_server() -> bool:
    """Whether MLflow is installed with its server; the history itself needs only its client."""
    try:
        importlib.metadata.version("mlflow")
    except importlib.metadata.PackageNotFoundError:
        return False
    return True


@contextmanager
def translated(uri: str) -> Iterator[None]:
    """Turn what MLflow, its database and its HTTP client raise into a RunError of one line."""
    try:
        yield
    except QuadratError:
        raise
    except Exception as error:
        # each of MLflow's stores (SQL drivers, HTTP, files) has its own error tree
        if type(error).__module__.split(".")[0] not in _FOREIGN and not isinstance(error, OSError):
            raise
        raise RunError(
            f"the run history {uri} failed: {border.short(error)}; check --tracking-uri, and that "
            "it can be reached and written"
        ) from None


_FOREIGN = (
    "mlflow",
    "sqlalchemy",
    "sqlite3",
    "alembic",
    "requests",
    "urllib3",
    "botocore",
    "azure",
)


def check_answers(uri: str) -> None:
    """Check that a server answers, within seconds; MLflow would try for minutes.

    Raises:
        RunError: nothing takes a connection at the address, or a web server gives no answer.
    """
    try:
        servers.check_answers(uri, f"{urlsplit(uri).path.rstrip('/')}/health")
    except (OSError, ValueError) as error:
        raise RunError(
            f"the run history {redact(uri)} does not answer ({border.short(error)}); start its "
            "server, or set --tracking-uri to another place"
        ) from None


def client(uri: str) -> Any:
    """MLflow's client on the store; RunError within 20 seconds where nothing answers."""
    check_answers(uri)
    mlflow = quiet_import()
    with translated(uri), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        if not uri.startswith("sqlite:///"):
            return mlflow.MlflowClient(tracking_uri=uri)
        database = Path(uri.removeprefix("sqlite:///"))
        # two processes that make the tables of a new database trip over each other
        with storage.lock(str(database.parent), wait=True, name=f".{database.name}.lock"):
            _check(database)
            return mlflow.MlflowClient(tracking_uri=uri)


def _check(database: Path) -> None:
    """Check that the database can be opened and written; MLflow would retry for minutes."""
    if database.is_dir():
        raise RunError(f"{database} is a folder; the run history needs the name of a file")
    if database.exists() and not os.access(database, os.W_OK):
        raise RunError(f"no permission to write {database}; set --tracking-uri to another place")
    try:
        with closing(sqlite3.connect(database)) as connection:
            connection.execute("PRAGMA schema_version")
    except sqlite3.DatabaseError as error:
        raise RunError(f"{database} is no run history: {error}; move it away") from None


def experiment_id(mlflow_client: Any, uri: str, name: str) -> str:
    """The experiment's id; it is made when missing, also when another process does so just now."""
    with translated(uri):
        experiment = mlflow_client.get_experiment_by_name(name)
        if experiment is None:
            try:
                return str(mlflow_client.create_experiment(name, artifact_root(uri)))
            except quiet_import().MlflowException:
                experiment = mlflow_client.get_experiment_by_name(name)
                if experiment is None:
                    raise
        if experiment.lifecycle_stage != "active":
            raise RunError(
                f"the experiment {name} in {uri} was deleted; restore it with "
                "`mlflow experiments restore` or choose another name"
            )
        return str(experiment.experiment_id)


def remove_database(uri: str) -> None:
    """Delete an SQLite history that holds no runs, its lock, and its folder of artifacts if empty.

    MLflow keeps deleted runs as rows, and its model registry in the same file: a file that MLflow
    was used on by hand stays.
    """
    database = Path(uri.removeprefix("sqlite:///"))
    with closing(sqlite3.connect(database)) as connection:
        made_by_hand = connection.execute("SELECT count(*) FROM registered_models").fetchone()[0]
    if made_by_hand:
        return
    names = [database.name, f".{database.name}.lock", f"{database.name}-journal"]
    for name in names:
        database.with_name(name).unlink(missing_ok=True)
    storage.remove_empty(str(database.parent / "artifacts"))
