"""Legends: what NLCD's codes mean, how classes fold, and what is refused."""

from pathlib import Path

import numpy as np
import pytest

from quadrat.errors import LegendError
from quadrat.legend import fold, from_dict, from_names, load_legend

# The groups of the reference system, written out here a second time on purpose.
GROUPS = {
    "Developed": {21, 22, 23, 24}, "Forest": {41, 42, 43, 90}, "Barren": {31}, "Shrub": {51, 52},
    "Herbaceous": {71, 72, 73, 74, 95}, "Cultivated": {81, 82},
}  # fmt: skip


def test_nlcd6_has_the_reference_groups_and_water_has_no_class() -> None:
    legend = load_legend("nlcd6")
    assert {c.name: set(c.codes) for c in legend.classes} == GROUPS
    assert legend.lookup()[11] == legend.lookup()[12] == -1
    assert legend.lookup()[90] == legend.id("Forest")


# NLCD's own groups (https://www.mrlc.gov/data/legends): the first digit of a code, written out.
NLCD = {
    "Water": {11, 12}, "Developed": {21, 22, 23, 24}, "Barren": {31}, "Forest": {41, 42, 43},
    "Shrub": {51, 52}, "Herbaceous": {71, 72, 73, 74}, "Cultivated": {81, 82},
    "Wetlands": {90, 95},
}  # fmt: skip


def test_nlcd8_has_water_and_wetlands_and_leaves_no_code_out() -> None:
    legend = load_legend("nlcd8")
    assert {c.name: set(c.codes) for c in legend.classes} == NLCD
    assert list(legend.names) == list(NLCD) and not legend.ignore
    assert all(len({code // 10 for code in codes}) == 1 for codes in NLCD.values())


def test_a_name_that_folds_into_two_classes_is_refused() -> None:
    classes = [{"name": "A", "members": ["x", "y"]}, {"name": "B", "members": ["y"]}]
    with pytest.raises(LegendError, match="folds 'y' into two classes"):
        from_dict({"name": "two", "classes": classes})


def test_nlcd6_folds_into_nlcd3() -> None:
    fine, coarse = load_legend("nlcd6"), load_legend("nlcd3")
    names = {fine.names[i]: coarse.names[j] for i, j in enumerate(fold(fine, coarse))}
    assert names["Developed"] == "Developed" and names["Cultivated"] == "Cultivated"
    assert {names[n] for n in ("Barren", "Forest", "Shrub", "Herbaceous")} == {"Undeveloped"}


def test_a_fold_that_would_lose_a_class_is_refused() -> None:
    with pytest.raises(LegendError, match="no place"):
        fold(load_legend("nlcd3"), load_legend("nlcd6"))


def test_a_legend_without_codes_folds_by_members() -> None:
    fine = from_names(["beach", "forest"])
    coarse = from_dict(
        {"name": "two", "classes": [{"name": "Wood", "members": ["forest"]},
                                    {"name": "Sand", "members": ["beach"]}]}
    )  # fmt: skip
    assert np.array_equal(fold(fine, coarse), [1, 0])


def test_a_users_toml_is_read(tmp_path: Path) -> None:
    file = tmp_path / "mine.toml"
    file.write_text('name = "mine"\n[[classes]]\nname = "Urban"\ncolor = "#ff0000"\ncodes = [21]\n')
    legend = load_legend(str(file))
    assert legend.names == ("Urban",) and legend.classes[0].rgb == (255, 0, 0)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ('name = "x"', "classes"),
        ('name = "x"\nclasses = []', "no classes"),
        ('name = "x"\n[[classes]]\nname = "A"\ncodes = [1]\n[[classes]]\nname = "A"', "twice"),
        ('name = "x"\n[[classes]]\nname = "A"\ncodes = [1]\n[[classes]]\nname = "B"\ncodes = [1]',
         "two classes"),
        ('name = "x"\n[[classes]]\nname = "../A"', "class name"),
        ('name = "x"\n[[classes]]\nname = "A"\ncolor = "red"', "rrggbb"),
        ('name = "x"\ncolour = 1\n[[classes]]\nname = "A"', "unknown key"),
        ("name = ", "TOML"),
    ],
)  # fmt: skip
def test_a_wrong_legend_is_refused_in_one_line(tmp_path: Path, text: str, says: str) -> None:
    file = tmp_path / "bad.toml"
    file.write_text(text)
    with pytest.raises(LegendError, match=says) as caught:
        load_legend(str(file))
    assert "\n" not in str(caught.value)


def test_a_missing_legend_names_those_that_ship() -> None:
    with pytest.raises(LegendError, match="nlcd8, nlcd6, nlcd3"):
        load_legend("nlcd7")


ONE = 'name = "x"\n[[classes]]\nname = "Forest"\n'


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ('codes = "41"', r"is no list; write codes = \[41, 42\]"),
        ("codes = 41", "is no list"),
        ('codes = ["41"]', "'41' in codes is no whole number"),
        ("codes = [41.7]", "41.7 in codes is no whole number"),
        ("codes = [true]", "True in codes is no whole number"),
        ("codes = [9999999999999999999]", "is no whole number"),
        ('members = "Forest"', "is no list of names"),
        ("code = [41]", "unknown key 'code'; did you mean codes"),
        ("colour = '#112233'", "unknown key 'colour'; did you mean color"),
        ("color = 1", "color = 1 is no text"),
    ],
)
def test_values_of_a_class_are_not_bent_to_fit(tmp_path: Path, line: str, says: str) -> None:
    file = tmp_path / "bad.toml"
    file.write_text(ONE + line)
    with pytest.raises(LegendError, match=says) as caught:
        load_legend(str(file))
    assert "\n" not in str(caught.value)


def test_an_unknown_key_of_a_legend_is_answered_with_a_near_one() -> None:
    with pytest.raises(LegendError, match="unknown key 'clases'; did you mean classes"):
        from_dict({"name": "x", "clases": []})
    with pytest.raises(LegendError, match="not a table"):
        from_dict({"name": "x", "classes": [1]})


def test_a_class_is_found_in_any_case_and_a_typo_gets_the_near_one() -> None:
    legend = load_legend("nlcd6")
    assert legend.id("developed") == legend.id("Developed")
    with pytest.raises(LegendError, match="did you mean Cultivated"):
        legend.id("cultivted")
