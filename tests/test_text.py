"""What people write is read as they mean it, or refused in one line; never a hang."""

import os
from pathlib import Path

import pytest

from quadrat import config, text
from quadrat.errors import InputError
from quadrat.legend import load_legend

LEGEND = 'name = "mine"\n[[classes]]\nname = "Forêt"\ncodes = [41]\n'


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_toml_of_any_editor_is_read(tmp_path: Path, encoding: str, end: str) -> None:
    file = tmp_path / "l.toml"
    file.write_bytes(LEGEND.replace("\n", end).encode(encoding))
    assert load_legend(str(file)).names == ("Forêt",)
    (tmp_path / "quadrat.toml").write_bytes(f"workers = 3{end}".encode(encoding))
    assert config.load(tmp_path, {}).workers == 3


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("a." * 400_000 + "a = 1", "more than 32 parts"),
        ("a = " + "[" * 100_000, "nests too deeply"),
        ("a = " + "{a = " * 100_000, "nests too deeply"),
        ("# " + "x" * (1 << 20), "larger than"),
        ("a = " + "1" * 5000, "digits"),
    ],
)
def test_toml_that_no_one_writes_is_refused_at_once(
    tmp_path: Path, content: str, says: str
) -> None:
    file = tmp_path / "l.toml"
    file.write_text(content)
    with pytest.raises(InputError, match=says) as error:
        text.read_toml(file)
    assert "\n" not in str(error.value)


def test_what_is_no_regular_file_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.toml")
    for name in ("pipe.toml", "."):
        with pytest.raises(InputError, match="no regular file"):
            text.read_toml(tmp_path / name)


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_tables_of_any_editor_are_read(encoding: str, end: str) -> None:
    data = f'row, col ,label{end}1,2,"a,é"{end}{end}3,4{end}'.encode(encoding)
    header, rows = text.read_table(data)
    assert header == ["row", "col", "label"]
    assert rows == [
        {"row": "1", "col": "2", "label": "a,é"},
        {"row": "3", "col": "4", "label": None},
    ]
    with pytest.raises(InputError, match="no CSV table"):
        text.read_table(b"a\n" + b"x" * 200_000)


def test_names_are_understood_or_answered_with_near_ones() -> None:
    known = ("Forest", "Developed", "Open water", "forest edge")
    assert text.match("developed", known) == "Developed"
    assert text.match("OPEN  WATER ", known) == "Open water"
    assert text.match("Fores", known) is None
    assert text.match("a", ("A", "a")) == "a" and text.match("b", ("B", "\uff22")) is None
    assert text.near("develoepd", known) == "did you mean Developed?"
    assert text.near("xyz", known).startswith("it may be one of Forest, Developed")
