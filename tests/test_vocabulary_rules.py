"""What the coded lists must be in themselves: unique, sourced, codes of the right shape, words in each language."""

import re
from collections import Counter
from collections.abc import Callable, Iterator

import pytest

from app import vocabularies

EVERY = pytest.mark.parametrize("name", vocabularies.names())
ROWS = {name: vocabularies.load(name).rows for name in vocabularies.names()}
NOT_TRANSLATED = {"loinc"}  # LOINC's own English names; the German variant of LOINC is not used
LEFT, RIGHT = "7771000", "24028007"  # SNOMED CT qualifiers

_SHIFT = (1, 5, 7, 6, 2, 8, 3, 0, 9, 4)


def _times(i: int, j: int) -> int:
    """The product in the dihedral group of ten elements, on which Verhoeff's check digit is built."""
    if j < 5:
        return (i + j) % 5 if i < 5 else 5 + (i - j) % 5
    return 5 + (i + j) % 5 if i < 5 else (i - j) % 5


def is_snomed(code: str) -> bool:
    """A concept of the International Edition: partition 00, and Verhoeff's check digit."""
    if not re.fullmatch(r"[1-9][0-9]{5,17}", code) or code[-3:-1] != "00":
        return False
    check = 0
    for place, digit in enumerate(map(int, reversed(code))):
        for _ in range(place % 8):
            digit = _SHIFT[digit]
        check = _times(check, digit)
    return check == 0


def is_loinc(code: str) -> bool:
    """Up to six digits and a check digit modulo ten (Luhn)."""
    if not re.fullmatch(r"[1-9][0-9]{0,5}-[0-9]", code):
        return False
    digits = [int(digit) for digit in reversed(code.replace("-", ""))]
    return sum(sum(divmod(digit * (1 + place % 2), 10)) for place, digit in enumerate(digits)) % 10 == 0


def is_atc(code: str) -> bool:
    """A chemical substance: the fifth level."""
    return re.fullmatch(r"[A-DGHJL-NPRSV][0-9]{2}[A-Z]{2}[0-9]{2}", code) is not None


def is_rxnorm(code: str) -> bool:
    """An RXCUI of today: one to seven digits."""
    return re.fullmatch(r"[1-9][0-9]{0,6}", code) is not None


SHAPES: dict[str, Callable[[str], bool]] = {
    "snomed_ct": is_snomed,
    "snomed_laterality": {LEFT, RIGHT}.__contains__,
    "atc": is_atc,
    "rxnorm": is_rxnorm,
}


def cells(column: str) -> Iterator[tuple[str, str, str]]:
    """Every code of another system in this column: the list, its own code, the other."""
    for name, rows in ROWS.items():
        for row in rows:
            for cell in filter(None, row.get(column, "").split("|")):
                yield name, row["code"], cell


@pytest.mark.parametrize(
    ("is_code", "right", "wrong"),
    [
        (is_snomed, "69536005", "69536006"),
        (is_snomed, "1017210004", "1017210040"),
        (is_snomed, "24028007", "24131000205107"),  # an extension's
        (is_loinc, "72514-3", "72514-4"),
        (is_loinc, "111551-8", "115151-8"),
        (is_atc, "N02BE01", "N02BE1"),
        (is_atc, "M01AE01", "O01AE01"),
        (is_rxnorm, "161", "0161"),
    ],
)
def test_the_shapes_tell_a_slip_from_a_code(is_code: Callable[[str], bool], right: str, wrong: str) -> None:
    assert is_code(right)
    assert not is_code(wrong)


@pytest.mark.parametrize("column", SHAPES)
def test_codes_of_other_systems_have_their_shape(column: str) -> None:
    found = list(cells(column))
    assert found
    assert [place for place in found if not SHAPES[column](place[2])] == []


def test_loinc_codes_have_their_check_digit_wherever_they_stand() -> None:
    text = [(name, cell) for name, rows in ROWS.items() for row in rows for cell in row.values()]
    found = [(name, code) for name, cell in text for code in re.findall(r"(?<![\w.:-])[0-9]{4,6}-[0-9](?![\w-])", cell)]
    assert len(found) > 60
    assert [place for place in found if not is_loinc(place[1])] == []


@EVERY
def test_codes_are_words_of_one_shape(name: str) -> None:
    shape = {"loinc": r"[0-9-]+", "units": r"[^\s|]+", "scopes": r"[a-z]+:[a-z]+"}.get(name, r"[a-z][a-z0-9_]*")
    assert [row["code"] for row in ROWS[name] if not re.fullmatch(shape, row["code"])] == []


@EVERY
def test_every_row_names_its_source(name: str) -> None:
    assert [row["code"] for row in ROWS[name] if not row["source"].strip()] == []


def test_a_code_of_another_system_is_verified_or_says_what_is_missing() -> None:
    known = {name: {"snomed_ct", "rxnorm"} & set(rows[0]) for name, rows in ROWS.items()}
    listed = [(name, row) for name, columns in known.items() if columns for row in ROWS[name]]
    assert len(listed) > 200
    for name, row in listed:
        foreign = name == "opioids_mme_cdc_2022" or any(row[column] for column in known[name])
        assert bool(row["verified"]) == bool(foreign), (name, row["code"])


@EVERY
def test_no_cell_has_loose_space_or_an_empty_part(name: str) -> None:
    for row in ROWS[name]:
        for column, cell in row.items():
            assert cell == " ".join(cell.split()), (row["code"], column)
            assert "" not in cell.split("|") or not cell, (row["code"], column)


@EVERY
def test_no_two_codes_are_shown_alike(name: str) -> None:
    vocabulary = vocabularies.load(name)
    for language, words in vocabulary.words.items():
        shown = Counter(words[code].casefold() for code in vocabulary.codes)
        assert [text for text, count in shown.items() if count > 1] == [], language


def test_a_list_has_english_words_and_leaves_the_others_to_the_translations() -> None:
    for name in vocabularies.names():
        columns = vocabularies.load(name).columns
        assert [column for column in columns if column.startswith("display_")] == ["display_en"], name


def test_every_list_and_its_title_has_words_in_every_language() -> None:
    for name in vocabularies.names():
        expected = ("en",) if name in NOT_TRANSLATED else vocabularies.languages()
        assert tuple(vocabularies.load(name).editions) == expected, name


def test_translations_are_of_codes_that_there_are() -> None:
    known = {"vocabularies": set(vocabularies.names())} | {name: vocabularies.load(name).codes for name in ROWS}
    for lists in vocabularies.translations().values():
        assert {(name, code) for name, codes in lists.items() for code in codes if code not in known[name]} == set()


def test_regions_are_of_one_side_in_every_column() -> None:
    for row in ROWS["body_regions"]:
        side = next((side for side in ("left", "right") if row["code"].endswith(f"_{side}")), "")
        assert row["side"] == side, row["code"]
        assert row["snomed_laterality"] in ("", {"left": LEFT, "right": RIGHT}.get(side)), row["code"]
        area = row["wpi_2016_area"].rpartition("_")[2]
        assert area not in ("left", "right") or area == side, row["code"]


def test_every_region_of_a_side_has_its_twin_with_the_same_crosswalks() -> None:
    rows = {row["code"]: row for row in ROWS["body_regions"]}
    for code, row in rows.items():
        if row["side"]:
            twin = rows[re.sub("(left|right)$", lambda side: {"left": "right", "right": "left"}[side[0]], code)]
            assert (twin["view"], bool(twin["snomed_ct"])) == (row["view"], bool(row["snomed_ct"])), code
            same = twin["snomed_ct"] == row["snomed_ct"]
            assert same == bool(row["snomed_laterality"]), code  # a code of both sides needs the qualifier


def test_the_body_map_has_each_segment_once_and_the_pain_index_all_its_areas() -> None:
    rows = ROWS["body_regions"]
    segments = Counter(row["choir_segment"] for row in rows if row["choir_segment"])
    assert segments == Counter(map(str, [*range(101, 137), *range(201, 239)]))
    assert len({row["wpi_2016_area"] for row in rows} - {""}) == 19


def test_regions_have_places_for_headache_teeth_the_middle_and_none_at_all() -> None:
    codes = vocabularies.load("body_regions").codes
    for parts in ("forehead", "temple", "eye", "ear", "sinus", "upper_teeth", "lower_teeth"):
        assert {f"{parts}_left", f"{parts}_right"} <= codes
    assert {"head_top", "head_whole", "upper_teeth_front", "mouth", "throat", "lower_back_middle"} <= codes
    assert {"unspecified", "other", "whole_body", "coccyx", "genital", "anal"} <= codes


def test_ingredients_are_called_by_no_name_of_another() -> None:
    called: dict[str, set[str]] = {}
    for row in ROWS["ingredients"]:
        for column in ("code", "who_name", "synonyms_en", "synonyms_de"):
            for one in filter(None, row[column].split("|")):
                called.setdefault(one.casefold(), set()).add(row["code"])
    assert {one: codes for one, codes in called.items() if len(codes) > 1} == {}


def test_opioids_are_ingredients_with_the_same_code_and_name() -> None:
    ingredients = {row["code"]: row for row in ROWS["ingredients"]}
    opioids = {row["code"] for row in ROWS["ingredients"] if "opioid" in row["classes"].split("|")}
    words = {name: vocabularies.load(name).words for name in ("ingredients", "opioids_mme_cdc_2022")}
    assert {row["code"] for row in ROWS["opioids_mme_cdc_2022"]} == opioids
    for row in ROWS["opioids_mme_cdc_2022"]:
        assert row["rxnorm"] == ingredients[row["code"]]["rxnorm"]
        for language in vocabularies.languages():
            assert len({lists[language][row["code"]] for lists in words.values()}) == 1


def test_the_loinc_codes_of_scales_instruments_and_wearables_are_listed() -> None:
    listed = vocabularies.load("loinc").codes
    used = {row["loinc"] for name in ("pain_scales", "wearables") for row in ROWS[name]} - {""}
    used |= {code for row in ROWS["instruments"] for code in re.findall(r"[0-9]+-[0-9](?!-)", row["loinc"])}
    assert used <= listed


def test_red_flag_questions_are_questions() -> None:
    vocabulary = vocabularies.load("red_flags")
    for row in vocabulary.rows:
        assert row["severity"] in ("urgent", "emergency")
        assert vocabulary.words["de"][row["code"]].endswith("?")
