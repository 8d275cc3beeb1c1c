"""Text that people write: encodings, TOML files, tables, names that nearly match.

It does not know what the words mean.
"""

from __future__ import annotations

import codecs
import csv
import difflib
import io
import re
import tomllib
import unicodedata
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, TextIO

from quadrat.errors import InputError

MOST_TOML = 1 << 20  # bytes
# A key of very many dotted parts takes tomllib time that grows with their square.
_DEEP_KEY = re.compile(
    r"""(?:^|[\[{,])\s*(?:(?:[A-Za-z0-9_-]+|"[^"\n]*"|'[^'\n]*')\s*\.\s*){32}""", re.MULTILINE
)


def decode(data: bytes) -> str:
    r"""Text of a file, its line ends as `\n`: UTF-8, with or without a byte-order mark, or UTF-16.

    Raises:
        InputError: the bytes are neither.
    """
    wide = data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
    try:
        text = data.decode("utf-16" if wide else "utf-8-sig")
    except UnicodeDecodeError:
        raise InputError("it is not UTF-8 text; save it as UTF-8") from None
    return text.replace("\r\n", "\n").replace("\r", "\n")


def read_toml(path: Path) -> dict[str, Any]:
    """The values of a TOML file.

    Raises:
        FileNotFoundError: there is no such file.
        InputError: it cannot be read, is no TOML, too large or too deep.
    """
    try:
        text = decode(_bytes(path))
        if _DEEP_KEY.search(text):
            raise InputError("it has a key of more than 32 parts; shorten it")
        return tomllib.loads(text)
    except FileNotFoundError:
        raise
    except RecursionError:
        raise InputError(f"{path} cannot be read as TOML: it nests too deeply") from None
    except (InputError, OSError, ValueError) as error:
        line = " ".join(str(error).split())[:200]
        raise InputError(f"{path} cannot be read as TOML: {line}") from None


def _bytes(path: Path) -> bytes:
    if path.exists() and not path.is_file():
        raise InputError("it is no regular file; name a TOML file")
    with path.open("rb") as file:
        data = file.read(MOST_TOML + 1)
    if len(data) > MOST_TOML:
        raise InputError(f"it is larger than {MOST_TOML:,} bytes; name a TOML file")
    return data


# control characters, marks that turn the direction of writing, halves of surrogate pairs
_UNSEEN = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]"
)
_FORMULA = re.compile(r"'*[=+\-@\t\r]")


def printable(words: str) -> str:
    r"""Text that a terminal shows and does not obey: `\x1b` for an escape; lines and tabs stay."""
    return _UNSEEN.sub(lambda found: found[0].encode("unicode_escape").decode(), words)


def write_table(file: TextIO, head: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    """Write CSV that no spreadsheet takes for formulas: a quote mark stands before such words.

    `read_table` takes it away again.
    """
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow([_cell(v) for v in head])
    writer.writerows([_cell(v) for v in row] for row in rows)


def _cell(value: Any) -> Any:
    if not isinstance(value, str) or not _FORMULA.match(value):
        return value
    return f"'{value}"


def _word(cell: str) -> str:
    return cell[1:] if cell[:1] == "'" and _FORMULA.match(cell) else cell


def read_table(data: bytes) -> tuple[list[str], list[dict[str, str | None]]]:
    """Header and rows of a CSV file; any line ends, names without blanks around them.

    Raises:
        InputError: it is no text, or no table.
    """
    lines = csv.reader(io.StringIO(decode(data)))
    try:
        header = [_word(name.strip()) for name in next(lines, [])]
        width = len(header)
        rows = [[_word(cell) for cell in line] for line in lines if line]
    except csv.Error as error:
        raise InputError(f"it is no CSV table ({error})") from None
    filled = ([*line[:width], *([None] * (width - len(line)))] for line in rows)
    return header, [dict(zip(header, line, strict=True)) for line in filled]


def same(name: str) -> str:
    """What two spellings of a name have in common: no case, blanks as one, one Unicode form."""
    return " ".join(unicodedata.normalize("NFKC", name).casefold().split())


def match(name: str, known: Sequence[str]) -> str | None:
    """The known name that `name` means: itself, or the only one of another case; else None."""
    if name in known:
        return name
    alike = [k for k in known if same(k) == same(name)]
    return alike[0] if len(alike) == 1 else None


def shown(value: object) -> str:
    """A value as a message shows it: quoted, at most 60 characters."""
    said = repr(value)
    return said if len(said) <= 60 else f"{said[:57]}..."


def nearest(name: str, known: Sequence[str]) -> str | None:
    """The known name that `name` was likely to be, or None."""
    folded = {same(k): k for k in reversed(known)}
    found = difflib.get_close_matches(same(name[:100]), list(folded), n=1)
    return folded[found[0]] if found else None


def near(name: str, known: Iterable[str]) -> str:
    """The cure for an unknown name: "did you mean X?", or the names that there are."""
    names = [str(k) for k in known]
    found = nearest(name, names)
    if found is not None:
        return f"did you mean {found}?"
    if not names:
        return "there is none"
    listed = ", ".join(names[:20]) + (f" and {len(names) - 20} more" if len(names) > 20 else "")
    return f"it may be one of {listed}"
