"""Names of counties and states, as people write them. Pure; knows no files.

"Middlesex, MA", "middlesex county, massachusetts" and "25017" are one county. A name that several
have is listed with its states, a wrong one with those that are near.
"""

from __future__ import annotations

import difflib
import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass

from quadrat.errors import InputError
from quadrat.text import nearest

# FIPS code -> (postal abbreviation, name)
STATES: dict[str, tuple[str, str]] = {
    "01": ("AL", "Alabama"), "02": ("AK", "Alaska"), "04": ("AZ", "Arizona"),
    "05": ("AR", "Arkansas"), "06": ("CA", "California"), "08": ("CO", "Colorado"),
    "09": ("CT", "Connecticut"), "10": ("DE", "Delaware"), "11": ("DC", "District of Columbia"),
    "12": ("FL", "Florida"), "13": ("GA", "Georgia"), "15": ("HI", "Hawaii"),
    "16": ("ID", "Idaho"), "17": ("IL", "Illinois"), "18": ("IN", "Indiana"),
    "19": ("IA", "Iowa"), "20": ("KS", "Kansas"), "21": ("KY", "Kentucky"),
    "22": ("LA", "Louisiana"), "23": ("ME", "Maine"), "24": ("MD", "Maryland"),
    "25": ("MA", "Massachusetts"), "26": ("MI", "Michigan"), "27": ("MN", "Minnesota"),
    "28": ("MS", "Mississippi"), "29": ("MO", "Missouri"), "30": ("MT", "Montana"),
    "31": ("NE", "Nebraska"), "32": ("NV", "Nevada"), "33": ("NH", "New Hampshire"),
    "34": ("NJ", "New Jersey"), "35": ("NM", "New Mexico"), "36": ("NY", "New York"),
    "37": ("NC", "North Carolina"), "38": ("ND", "North Dakota"), "39": ("OH", "Ohio"),
    "40": ("OK", "Oklahoma"), "41": ("OR", "Oregon"), "42": ("PA", "Pennsylvania"),
    "44": ("RI", "Rhode Island"), "45": ("SC", "South Carolina"), "46": ("SD", "South Dakota"),
    "47": ("TN", "Tennessee"), "48": ("TX", "Texas"), "49": ("UT", "Utah"),
    "50": ("VT", "Vermont"), "51": ("VA", "Virginia"), "53": ("WA", "Washington"),
    "54": ("WV", "West Virginia"), "55": ("WI", "Wisconsin"), "56": ("WY", "Wyoming"),
    "60": ("AS", "American Samoa"), "66": ("GU", "Guam"),
    "69": ("MP", "Commonwealth of the Northern Mariana Islands"), "72": ("PR", "Puerto Rico"),
    "78": ("VI", "United States Virgin Islands"),
}  # fmt: skip


@dataclass(frozen=True)
class Row:
    """One area of a boundary file.

    Attributes:
        number: its place in the file.
        name, full_name: "Baltimore", and "Baltimore County" or "Baltimore city".
    """

    number: int
    geoid: str
    state: str
    name: str
    full_name: str

    @property
    def postal(self) -> str:
        """The state's abbreviation, "MA"."""
        return STATES.get(self.state, (self.state, ""))[0]

    @property
    def state_name(self) -> str:
        """The state's name."""
        return STATES.get(self.state, ("", self.state))[1]


def split_name(text: str) -> tuple[str, str | None]:
    """The county and the state of "Middlesex, MA"; no state when there is no comma."""
    county, comma, state = text.rpartition(",")
    if not comma:
        return text.strip(), None
    if not county.strip() or not state.strip():
        raise InputError(f'{text!r} is no county; write "Middlesex, MA"')
    return county.strip(), state.strip()


def key(text: str) -> str:
    """A name in the form that is compared: no case, accents or dots; "saint" as "st"."""
    flat = "".join(c for c in unicodedata.normalize("NFD", text) if not unicodedata.combining(c))
    words = re.sub(r"[^a-z0-9]+", " ", flat.lower().replace(".", "").replace("'", "")).split()
    return " ".join({"saint": "st", "sainte": "ste"}.get(w, w) for w in words)


def state_code(text: str) -> str:
    """The FIPS code of a state given by name, abbreviation or code; InputError otherwise."""
    wanted = key(text)
    for code, (postal, name) in STATES.items():
        if wanted in (code, postal.lower(), key(name)):
            return code
    near = nearest(text, [n for _, n in STATES.values()])
    cure = f"did you mean {near}?" if near else "write it as MA or Massachusetts"
    raise InputError(f"{text!r} is no state; {cure}")


def choose_state(text: str, rows: Sequence[Row]) -> Row:
    """The row of a state; InputError when the file has none."""
    code = state_code(text)
    for row in rows:
        if row.state == code:
            return row
    raise InputError(f"the boundary file has no {STATES[code][1]}; give --polygon FILE")


def choose_county(wanted: tuple[str, str | None], rows: Sequence[Row], boundary_year: int) -> Row:
    """The one county of that name.

    Raises:
        InputError: none (those of near names are listed), or several (all are listed).
    """
    name, state = wanted
    if state is None and re.fullmatch(r"\d{5}", name):
        matches = [r for r in rows if r.geoid == name]
    else:
        code = None if state is None else state_code(state)
        there = [r for r in rows if code is None or r.state == code]
        # a full name ("Baltimore city") is one county where the short one is two
        matches = [r for r in there if key(r.full_name) == key(name)]
        matches = matches or [r for r in there if key(r.name) == key(name)]
    if len(matches) == 1:
        return matches[0]
    if not matches:
        raise InputError(_unknown(name, state, rows, boundary_year))
    listed = sorted(f"{r.full_name}, {r.postal}" for r in matches)
    raise InputError(
        f"{name!r} is the name of {len(matches)} counties: {'; '.join(listed)}; "
        f'give one of them, as in --county "{listed[0]}"'
    )


def _unknown(name: str, state: str | None, rows: Sequence[Row], boundary_year: int) -> str:
    code = None if state is None else state_code(state)
    there = [r for r in rows if code is None or r.state == code]
    where = f"in {STATES[code][1]}" if code else "in the boundary file"
    if code == "09" and boundary_year >= 2022:
        regions = ", ".join(sorted(r.name for r in there))
        return (
            f"no county {name!r} {where}, whose counties are planning regions since 2022 "
            f"({regions}); give one of them, or --boundary-year 2021 for the counties"
        )
    names = {f"{r.name}, {r.postal}": r for r in there}
    shown = f"{name.title()}, {STATES[code][0]}" if code else name.title()
    near = difflib.get_close_matches(shown, names, n=3, cutoff=0.7)
    cure = f"did you mean {' or '.join(near)}?" if near else "check the spelling and the state"
    return f"no county {name!r} {where}; {cure}"
