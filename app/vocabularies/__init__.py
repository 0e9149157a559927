"""The codes a diary is written in, as package data: each row with its source and whether it was verified.

English words stand in the lists, those of every other language in `translations.csv`, a column for each
(docs/vocabularies.md).
"""

import csv
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache, cached_property
from hashlib import sha256
from importlib.resources import files

TITLES: Mapping[str, str] = {
    "allergies": "Allergies and intolerances",
    "associated_symptoms": "Symptoms that come with pain",
    "body_regions": "Regions of the body map",
    "clinical_courses": "Whether a pain is chronic",
    "conditions": "Conditions",
    "courses": "How a pain is changing",
    "dose_forms": "Forms of medicines",
    "ingredients": "Active ingredients and their classes",
    "instruments": "Questionnaires",
    "loinc": "LOINC codes in use",
    "opioids_mme_cdc_2022": "Opioids and their MME factors (CDC 2022)",
    "pain_characters": "What pain feels like",
    "pain_scales": "Pain scales",
    "professions": "Professions of the care team",
    "red_flags": "Red-flag questions",
    "relief_factors": "What relieves pain",
    "routes": "Ways a medicine is given",
    "scopes": "What a consent may open",
    "severities": "How severe a symptom is",
    "side_effects": "Side effects of treatments",
    "skip_reasons": "Reasons for not doing a treatment",
    "treatment_categories": "Kinds of treatment",
    "triggers": "What sets pain off",
    "units": "Units of doses and strengths (UCUM)",
    "wearables": "Measurements of watches and phones",
}
ENGLISH = "en"
_TITLE = "vocabularies"  # the `list` of translations.csv that holds the titles
_DISPLAY, _SYNONYMS = "display_", "synonyms_"
_NUMBERS = frozenset({"min", "max", "step", "min_age_years", "max_age_years", "mme_factor"})
_LISTS = frozenset({"performers", "measures", "classes", "used_by", "atc"})
_VERIFIED = frozenset({"yes", "snomed"})

Words = Mapping[str, str]  # a display text for each code
Item = dict[str, object]


@dataclass(frozen=True)
class Edition:
    """A vocabulary in one language: its title, the JSON object that is answered, and a strong entity tag of that."""

    language: str
    title: str
    document: bytes

    @cached_property
    def etag(self) -> str:
        """Another content or another language has another."""
        return f'"{sha256(self.document).hexdigest()[:32]}"'


@dataclass(frozen=True)
class Vocabulary:
    """One coded list: its rows as text, with the words of each language that has words for all of it."""

    name: str
    columns: tuple[str, ...]
    rows: tuple[Mapping[str, str], ...]
    titles: Words
    words: Mapping[str, Words]

    @cached_property
    def ordered_codes(self) -> tuple[str, ...]:
        """The codes in the order of the file."""
        return tuple(row["code"] for row in self.rows)

    @cached_property
    def codes(self) -> frozenset[str]:
        """The codes, to ask whether one is known."""
        return frozenset(self.ordered_codes)

    @cached_property
    def items(self) -> tuple[Item, ...]:
        """The rows as they are answered but for `display`: typed, with null for what is not known."""
        return tuple(
            _item(row, {language: words[row["code"]] for language, words in self.words.items()}) for row in self.rows
        )

    @cached_property
    def editions(self) -> Mapping[str, Edition]:
        """What is answered, by language, English first."""
        return {language: self._edition(language) for language in self.words}

    def _edition(self, language: str) -> Edition:
        items = [{"code": item["code"], "display": item[_DISPLAY + language]} | item for item in self.items]
        body = {"name": self.name, "title": self.titles[language], "language": language, "items": items}
        return Edition(
            language, self.titles[language], json.dumps(body, ensure_ascii=False, separators=(",", ":")).encode()
        )


def names() -> tuple[str, ...]:
    """The names that `load` knows, in alphabetical order."""
    return tuple(TITLES)


@cache
def load(name: str) -> Vocabulary:
    """The vocabulary of this name; LookupError when there is none."""
    if name not in TITLES:
        raise LookupError(f"No vocabulary {name} is known: give it a title in app/vocabularies/__init__.py.")
    columns, rows = _read(name)
    english = {row["code"]: row["display_en"] for row in rows}
    translated = {language: (lists.get(_TITLE, {}), lists.get(name, {})) for language, lists in translations().items()}
    whole = {
        language: (titles, words)
        for language, (titles, words) in translated.items()
        if name in titles and words.keys() >= english.keys()
    }
    return Vocabulary(
        name,
        columns,
        rows,
        titles={ENGLISH: TITLES[name]} | {language: titles[name] for language, (titles, _) in whole.items()},
        words={ENGLISH: english} | {language: words for language, (_, words) in whole.items()},
    )


@cache
def languages() -> tuple[str, ...]:
    """The languages that any vocabulary is answered in, English first."""
    return (ENGLISH, *translations())


@cache
def translations() -> Mapping[str, Mapping[str, Words]]:
    """What translations.csv has words for: by language, then by list, then by code."""
    columns, rows = _read("translations")
    found: dict[str, dict[str, dict[str, str]]] = {}
    for column in columns[2:]:
        lists = found.setdefault(column.removeprefix(_DISPLAY), {})
        for row in rows:
            if row[column]:
                lists.setdefault(row["list"], {})[row["code"]] = row[column]
    return found


def _read(name: str) -> tuple[tuple[str, ...], tuple[Mapping[str, str], ...]]:
    """The columns and rows of a file."""
    reader = csv.DictReader(_lines(name), strict=True)
    rows = tuple(reader)
    return tuple(reader.fieldnames or ()), rows


def _lines(name: str) -> Iterable[str]:
    return (files(__name__) / f"{name}.csv").read_text("utf-8").splitlines()


def _item(row: Mapping[str, str], displays: Words) -> Item:
    """A row with the members every item has first and last; whatever else the list says stands between."""
    verified = row.get("verified", "")
    head: Item = {"code": row["code"], **{_DISPLAY + language: text for language, text in displays.items()}}
    tail: Item = {
        "source": row["source"],
        "verified": verified in _VERIFIED,
        "verification_note": verified if verified not in ("", "yes") else None,
    }
    known = head.keys() | tail.keys()
    return head | {column: _cell(column, cell) for column, cell in row.items() if column not in known} | tail


def _cell(column: str, cell: str) -> object:
    """A cell as JSON holds it; codes of other systems stay text, for a double cannot hold them all."""
    if column in _LISTS or column.startswith(_SYNONYMS):
        return cell.split("|") if cell else []
    if not cell:
        return None
    if column not in _NUMBERS:
        return cell
    number = float(cell)
    return int(number) if number.is_integer() else number
