"""Defaults: where they come from and which one holds."""

from __future__ import annotations

from pathlib import Path

import pytest

from quadrat.config import Config, load
from quadrat.errors import InputError


def write(folder: Path, text: str) -> Path:
    path = folder / "quadrat.toml"
    path.write_text(text, "utf-8")
    return path


def test_nothing_set_is_all_none(tmp_path: Path) -> None:
    assert load(tmp_path, {}) == Config()


def test_the_environment_comes_before_the_file(tmp_path: Path) -> None:
    write(tmp_path, 'engine = "spark"\nmaster = "yarn"\nworkers = 8\nlegend = "nlcd3"\n')
    config = load(tmp_path, {"QUADRAT_MASTER": "local[2]", "QUADRAT_WORKERS": "4", "HOME": "/x"})
    assert config == Config(engine="spark", master="local[2]", workers=4, legend="nlcd3")


def test_an_empty_variable_is_not_set(tmp_path: Path) -> None:
    write(tmp_path, 'master = "yarn"\n')
    assert load(tmp_path, {"QUADRAT_MASTER": ""}).master == "yarn"


def test_another_file_by_variable_and_paths_relative_to_it(tmp_path: Path) -> None:
    other = tmp_path / "deep"
    other.mkdir()
    path = write(
        other, 'tiles = "t"\nmodels = "az://box/models"\nscores = "/s"\nlegend = "my.toml"\n'
    )
    config = load(tmp_path, {"QUADRAT_CONFIG": str(path)})
    assert config.tiles == str(other / "t")
    assert config.models == "az://box/models"
    assert config.scores == "/s"
    assert config.legend == str(other / "my.toml")


@pytest.mark.parametrize(
    ("text", "environ", "says"),
    [
        ('trackng_uri = "x"', {}, "did you mean tracking_uri?"),
        ("[tiles]\na = 1", {}, "tiles"),
        ("workers = 0", {}, "whole number from 1"),
        ("workers = true", {}, "whole number from 1"),
        ('workers = "2"', {}, "whole number from 1"),
        ('engine = "dask"', {}, "one of local, spark"),
        ("engine = ", {}, "cannot be read as TOML"),
        ("", {"QUADRAT_WORKERS": "many"}, "QUADRAT_WORKERS"),
        ("", {"QUADRAT_ENGNE": "local"}, "did you mean QUADRAT_ENGINE?"),
        ("", {"QUADRAT_CONFIG": "/nowhere/q.toml"}, "/nowhere/q.toml"),
    ],
)
def test_mistakes_are_named(tmp_path: Path, text: str, environ: dict[str, str], says: str) -> None:
    write(tmp_path, text + "\n")
    with pytest.raises(InputError) as error:
        load(tmp_path, environ)
    assert says in str(error.value)
    assert "\n" not in str(error.value)


def test_a_file_that_is_no_text(tmp_path: Path) -> None:
    (tmp_path / "quadrat.toml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(InputError, match="cannot be read as TOML"):
        load(tmp_path, {})


@pytest.mark.parametrize(
    ("name", "found"),
    [
        ("lite0", "s3://box/models/lite0"),
        ("./lite0", "./lite0"),
        ("/m/lite0", "/m/lite0"),
        ("az://m/lite0", "az://m/lite0"),
        (".", "."),
        ("county.tif", "county.tif"),
    ],
)
def test_bare_words_lie_in_the_configured_folder(name: str, found: str) -> None:
    assert Config(models="s3://box/models/").place("models", name) == found
    assert Config().place("models", name) == name
