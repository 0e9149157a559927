"""What PostgreSQL must know of the kinds of record, written from their declarations.

    python -m migrations.kinds     writes app/models/kinds.sql anew

`python -m migrations.check` compares the two, and names whatever a declaration lacks. The text is generated and not a
table: a table was 10 to 15 times slower to ask, and every write would have locked one row of it.
"""

import json
import re
from collections.abc import Iterable, Iterator
from contextlib import suppress
from importlib import import_module
from pathlib import Path
from pkgutil import iter_modules
from sys import modules

from pydantic import ValidationError

from app import models, schemas, vocabularies
from app.domain.treatments import DOSE_STATUSES, SESSION_STATUSES, fits, flags
from app.schemas.base import Json, text
from app.schemas.envelope import RecordOut
from app.schemas.kinds import KINDS, NEEDS
from app.schemas.records import AnyKind, RecordKind

ROOT = Path(__file__).parents[1]
KINDS_SQL = ROOT / "app" / "models" / "kinds.sql"
NAME = re.compile(r"[a-z]+(_[a-z]+)*")
NOUN = re.compile(r"(a|an|the) [a-z]+( [a-z]+)*")
FREE_TEXT = text(1).pattern
HOLDS = ("moment", "interval", "singleton")
# Not a column: by it the database flags who is outside the age that a scale is validated for.
NOT_COLUMNS = {"scale_birth_dates"}

HEAD = """\
-- Written by `python -m migrations.kinds` from app/schemas/kinds.py: the kinds of record, how long each holds, and
-- which scopes open and write them. Declare a kind there and write this anew; nothing else names the kinds.
"""
FUNCTION = """
-- {comment}
CREATE OR REPLACE FUNCTION {signature} RETURNS {returns}
LANGUAGE sql IMMUTABLE AS $$
    SELECT {body}
$$;
"""
# Not validated: the rows that are there were checked when they were written, and a kind or scope only ever comes to
# those that were good; a scan would keep everybody from the table.
CONSTRAINT = """
ALTER TABLE {table} DROP CONSTRAINT IF EXISTS {name};
ALTER TABLE {table} ADD CONSTRAINT {name} CHECK ({check}) NOT VALID;
"""


def sql() -> str:
    """The text of app/models/kinds.sql."""
    return HEAD + "".join([*_functions(), "\n-- What no row may hold.", *_constraints()])


def faults() -> Iterator[str]:
    """What a kind lacks, a sentence for each; nothing where everything is there."""
    yield from declaration_faults()
    for kind in KINDS:
        tests = ROOT / "tests" / "schemas" / f"test_{kind.plural}.py"
        if not tests.exists() or "def test_" not in tests.read_text():
            yield f"{kind.name}: {tests.relative_to(ROOT)} is missing, or tests nothing."
    if KINDS_SQL.read_text() != sql():
        yield "app/models/kinds.sql is not what app/schemas/kinds.py says: `make migration NAME=…` writes both anew."


def declaration_faults() -> Iterator[str]:
    """What is wrong with the declarations themselves, before any SQL is written from them."""
    yield from _unlisted()
    if sum(kind.holds == "singleton" for kind in KINDS) > 1:
        yield "Two kinds are singletons, and both would have the id of the patient."
    for name in ("name", "plural", "title"):
        values = [getattr(kind, name) for kind in KINDS]
        yield from (f"Two kinds have the {name} {value}." for value in set(values) if values.count(value) > 1)
    for kind in KINDS:
        yield from (f"{kind.name}: {sentence}" for sentence in _faults_of(kind))


def main() -> None:
    """Writes app/models/kinds.sql."""
    KINDS_SQL.write_text(sql())


def _functions() -> Iterator[str]:
    write_scopes = list(dict.fromkeys(kind.write_scope for kind in KINDS))
    yield _function("Every kind.", "all_kinds()", "text[]", _array(kind.name for kind in KINDS))
    yield _function(
        "The kinds that hold so: moment, interval, singleton.",
        "kinds_that_hold(holds text)",
        "text[]",
        _case("holds", [(holds, _array(kind.name for kind in KINDS if kind.holds == holds)) for holds in HOLDS]),
    )
    opened = [(scope, [kind.name for kind in KINDS if kind.read_scope == scope]) for scope in _read_scopes()]
    cases = (f"CASE WHEN '{scope}' = ANY (scopes) THEN {_array(names)} ELSE '{{}}' END" for scope, names in opened)
    yield _function("The kinds that scopes open.", "open_kinds(scopes text[])", "text[]", "\n        || ".join(cases))
    yield _function(
        "The scope to write records of a kind; NULL, which nobody holds, of one that is not known.",
        "write_scope(kind text)",
        "text",
        _case("kind", [(kind.name, f"'{kind.write_scope}'") for kind in KINDS]),
    )
    yield _function("Every scope to write something.", "write_scopes()", "text[]", _array(write_scopes))
    scopes = vocabularies.load("scopes").ordered_codes
    yield _function("Every scope: whose diary it is has them all.", "all_scopes()", "text[]", _array(scopes))
    yield _function(
        "What keeps an event out of figures, as JSON: domain/treatments.py says which status fits which category.",
        "event_flags(category text, status text)",
        "text",
        _event_flags(),
    )


def _event_flags() -> str:
    """The rule of the domain, asked about every category and status there is."""
    fitting: dict[str, list[str]] = {}  # the statuses, by the categories that they fit
    for status in sorted(DOSE_STATUSES | SESSION_STATUSES):
        categories = vocabularies.load("treatment_categories").ordered_codes
        fitting.setdefault(_array(category for category in categories if fits(category, status)), []).append(status)
    pairs = (f"status = ANY ({_array(statuses)}) AND category = ANY ({of})" for of, statuses in fitting.items())
    missing, unfit = json.dumps(flags(None, "taken")), json.dumps(flags("otc_medication", "attended"))
    fit = "\n            OR ".join(pairs)
    return f"""CASE
        WHEN category IS NULL THEN '{missing}'
        WHEN {fit} THEN '[]'
        ELSE '{unfit}'
    END"""


def _constraints() -> Iterator[str]:
    lasting = [kind.name for kind in KINDS if kind.holds != "moment"]
    singletons = [kind.name for kind in KINDS if kind.holds == "singleton"]
    yield _constraint("records", "kind", f"kind = ANY ({_array(kind.name for kind in KINDS)})")
    yield _constraint("records", "singleton", f"(kind = ANY ({_array(singletons)})) = (id = patient_id)")
    yield _constraint("records", "valid_to", f"(kind = ANY ({_array(lasting)})) = (valid_to IS NOT NULL)")
    known = vocabularies.load("scopes").ordered_codes
    needs = (f"(NOT '{needing}' = ANY (scopes) OR scopes && {_array(needed)})" for needing, needed in NEEDS.items())
    readable = "\n    AND ".join(needs)
    for table in ("grants", "share_codes"):
        yield _constraint(table, "scopes", f"scopes <@ {_array(known)}")
        yield _constraint(table, "readable", readable)


def _faults_of(kind: AnyKind) -> Iterator[str]:
    if not NAME.fullmatch(kind.name) or not NAME.fullmatch(kind.plural):
        yield "name and plural are lower-case words with _ between them."
    if not NOUN.fullmatch(kind.noun):
        yield "its noun needs an article: a goal, an entry, the profile."
    scopes = vocabularies.load("scopes").codes
    for scope in sorted({kind.read_scope, kind.write_scope} - scopes):
        yield f"app/vocabularies/scopes.csv has no sentence for {scope}."
    own_patch = getattr(modules[kind.fields.__module__], kind.patch.__name__, None) is kind.patch
    if not kind.examples or not (kind.patches or own_patch):
        yield "it needs an example, and one of a patch."
    yield from _wrong_fields(kind)
    yield from _invalid_examples(kind)
    yield from _wrong_facts(kind)


def _wrong_fields(kind: AnyKind) -> Iterator[str]:
    for name in sorted(kind.fields.model_fields.keys() & (RecordOut.model_fields.keys() - {"id"})):
        yield f"its field {name} is one that the server adds."
    if kind.holds == "interval" and kind.facts is None and "valid_to" not in kind.fields.model_fields:
        yield "it holds for an interval: it needs an Instant valid_to, or facts that say until when."
    schema = kind.fields.model_json_schema()
    for name, member in schema["properties"].items():
        for one in _strings(member, schema.get("$defs", {})):
            if one.keys().isdisjoint({"maxLength", "pattern", "enum", "const", "format"}):
                yield f"its field {name} is text without a bound: give it line(…), or a coded list."
            elif one.get("pattern") == FREE_TEXT and name != "note":
                yield f"its field {name} is free text, which only the note may be: `notes:read` opens that alone."


def _strings(schema: Json, definitions: Json) -> Iterator[Json]:
    """Every schema of a string within a schema."""
    if schema.get("type") == "string":
        yield schema
    inner = [*schema.get("anyOf", ()), *schema.get("oneOf", ()), *schema.get("properties", {}).values()]
    inner += [schema["items"]] if "items" in schema else []
    inner += [definitions[schema["$ref"].rpartition("/")[2]]] if "$ref" in schema else []
    for one in inner:
        yield from _strings(one, definitions)


def _wrong_facts(kind: AnyKind) -> Iterator[str]:
    columns = list(models.Record.__table__.columns.keys())
    promoted = {*columns[columns.index("note") + 1 :], *NOT_COLUMNS}
    for example in kind.examples:
        with suppress(ValidationError):
            facts = kind.columns(kind.create.model_validate(example))
            for column in sorted(facts.keys() - promoted):
                yield f"its facts name {column}, which is no promoted column of records."
            try:
                json.dumps(facts)
            except TypeError:
                yield "its facts are no JSON: dates and instants go as text."


def _invalid_examples(kind: AnyKind) -> Iterator[str]:
    """Examples that the models of the kind refuse, and where."""
    for model, examples in (
        (kind.create, kind.examples),
        (kind.patch, kind.patches),
        (kind.out, [kind.stored_example]),
    ):
        for place, example in enumerate(examples):
            try:
                model.model_validate(example)
            except ValidationError as failure:
                where = sorted({"/".join(map(str, error["loc"])) or "the whole" for error in failure.errors()})
                yield f"example {place} is no {model.__name__}: {', '.join(where)}."


def _unlisted() -> Iterator[str]:
    for module in iter_modules(schemas.__path__):
        for value in vars(import_module(f"{schemas.__name__}.{module.name}")).values():
            if isinstance(value, RecordKind) and value not in KINDS:
                yield f"{value.name}: app/schemas/kinds.py does not list it."


def _read_scopes() -> list[str]:
    return list(dict.fromkeys(kind.read_scope for kind in KINDS))


def _function(comment: str, signature: str, returns: str, body: str) -> str:
    return FUNCTION.format(comment=comment, signature=signature, returns=returns, body=body)


def _constraint(table: str, name: str, check: str) -> str:
    return CONSTRAINT.format(table=table, name=f"ck_{table}_{name}", check=check)


def _case(value: str, cases: Iterable[tuple[str, str]]) -> str:
    """Without ELSE: what is not named is NULL."""
    lines = "".join(f"\n        WHEN '{case}' THEN {result}" for case, result in cases)
    return f"CASE {value}{lines}\n    END"


def _array(words: Iterable[str]) -> str:
    return f"'{{{','.join(words)}}}'::text[]"


if __name__ == "__main__":
    main()
