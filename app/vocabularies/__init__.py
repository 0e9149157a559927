"""The codes a diary is written in, as package data: each row with its source and whether it was verified."""

import csv
import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache, cached_property
from hashlib import sha256
from importlib.resources import files

TITLES: Mapping[str, str] = {
    "allergies": "Allergies and intolerances",
    "associated_symptoms": "Symptoms that come with pain",
    "body_regions": "Regions of the body map",
    "conditions": "Conditions",
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
    "side_effects": "Side effects of treatments",
    "skip_reasons": "Reasons for not doing a treatment",
    "treatment_categories": "Kinds of treatment",
    "triggers": "What sets pain off",
    "units": "Units of doses and strengths (UCUM)",
}
_NUMBERS = frozenset({"min", "max", "step", "min_age_years", "max_age_years", "mme_factor"})
_LISTS = frozenset({"performers", "measures", "classes", "used_by"})
_VERIFIED = frozenset({"yes", "snomed"})


@dataclass(frozen=True)
class Vocabulary:
    """One coded list: its rows as text, the codes of its first column, and the document that is answered."""

    name: str
    title: str
    columns: tuple[str, ...]
    rows: tuple[Mapping[str, str], ...]

    @cached_property
    def ordered_codes(self) -> tuple[str, ...]:
        """The codes in the order of the file."""
        return tuple(row[self.columns[0]] for row in self.rows)

    @cached_property
    def codes(self) -> frozenset[str]:
        """The codes, to ask whether one is known."""
        return frozenset(self.ordered_codes)

    @cached_property
    def items(self) -> tuple[dict[str, object], ...]:
        """The rows as they are answered: typed, with null for what is not known."""
        return tuple(_item(row, self.columns[0]) for row in self.rows)

    @cached_property
    def document(self) -> bytes:
        """The JSON object `{name, title, items}`."""
        body = {"name": self.name, "title": self.title, "items": self.items}
        return json.dumps(body, ensure_ascii=False, separators=(",", ":")).encode()

    @cached_property
    def etag(self) -> str:
        """A strong entity tag of the document."""
        return f'"{sha256(self.document).hexdigest()[:32]}"'


def names() -> tuple[str, ...]:
    """The names that `load` knows, in alphabetical order."""
    return tuple(TITLES)


@cache
def load(name: str) -> Vocabulary:
    """The vocabulary of this name; LookupError when there is none."""
    if name not in TITLES:
        raise LookupError(f"No vocabulary {name} is known: give it a title in app/vocabularies/__init__.py.")
    title = TITLES[name]
    text = (files(__name__) / f"{name}.csv").read_text("utf-8")
    reader = csv.DictReader(text.splitlines(), strict=True)
    rows = tuple(reader)
    return Vocabulary(name, title, tuple(reader.fieldnames or ()), rows)


def _item(row: Mapping[str, str], key: str) -> dict[str, object]:
    """A row with the members every item has first; whatever else the list says follows."""
    verified = row.get("verified", "")
    head: dict[str, object] = {
        "code": row[key],
        "display": row.get("display_en") or row.get("display") or (row[key] if key == "ingredient" else None),
    }
    tail: dict[str, object] = {
        "source": row.get("source") or None,
        "verified": verified in _VERIFIED,
        "verification_note": verified if verified not in ("", "yes") else None,
    }
    known = {key, "display", "display_en", *tail}
    return head | {column: _cell(column, cell) for column, cell in row.items() if column not in known} | tail


def _cell(column: str, cell: str) -> object:
    """A cell as JSON holds it; codes of other systems stay text, for a double cannot hold them all."""
    if column in _LISTS:
        return cell.split("|") if cell else []
    if not cell:
        return None
    if column not in _NUMBERS:
        return cell
    number = float(cell)
    return int(number) if number.is_integer() else number
