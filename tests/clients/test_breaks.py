"""What breaks clients of the last release is found, and what only adds is let pass."""

import copy
import json
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr

from app.config import Settings
from app.main import create_app
from openapi import check
from openapi.breaks import breaks

RELEASED: dict[str, Any] = json.loads(check.RELEASED.read_text())
GONE = object()

LIST = ("paths", "/v1/patients/{patient_id}/entries", "get")
CREATE = (*LIST[:2], "post")
ENTRY = (*LIST[:1], "/v1/patients/{patient_id}/entries/{entry_id}")
SIGN_IN = ("paths", "/v1/auth/sessions", "post")
CODES = "x-extensible-enum"
SCHEMAS = ("components", "schemas")
VALUE = (*SCHEMAS, "ScoreOut", "properties", "value")
SCORE = (*SCHEMAS, "Score", "properties", "value")
ME = (*SCHEMAS, "MeOut", "properties")
SITES = (*SCHEMAS, "EntryFields", "properties", "sites")
NOTES = (*SCHEMAS, "EntryIn", "properties", "note")
TOKENS = (*SCHEMAS, "TokensOut")


def at(document: Any, place: tuple[str | int, ...]) -> Any:
    for step in place:
        document = document[step]
    return document


def edited(place: tuple[str | int, ...], value: Any) -> dict[str, Any]:
    """The released document with another value at the place, or none."""
    document = copy.deepcopy(RELEASED)
    *steps, last = place
    holder = at(document, tuple(steps))
    if value is GONE:
        del holder[last]
    elif isinstance(holder, list) and last == len(holder):
        holder.append(value)
    else:
        holder[last] = value
    return document


def parameters(*names: str) -> list[Any]:
    """Those of the list of entries, without these."""
    return [one for one in at(RELEASED, (*LIST, "parameters")) if one["name"] not in names]


TIMELINE = ("paths", "/v1/patients/{patient_id}/timeline", "get", "parameters")
KINDS = next(n for n, one in enumerate(at(RELEASED, TIMELINE)) if one["name"] == "kinds")
PATTERN = (*TIMELINE, KINDS, "schema", "pattern")
TAKEN = at(RELEASED, PATTERN)
NARROWER = "read_timeline: query kinds: pattern is narrower now"

NEEDED = {"name": "unit", "in": "query", "required": True, "schema": {"type": "string"}}
LATER = {"kind": {"type": "string", "const": "x"}, "id": {"type": "string", "format": "uuid"}}
OPTIONAL = NEEDED | {"required": False}
BREAKS = [
    (ENTRY, GONE, "GET /v1/patients/{patient_id}/entries/{entry_id} is gone"),
    ((*ENTRY, "delete"), GONE, "DELETE /v1/patients/{patient_id}/entries/{entry_id} is gone"),
    ((*LIST, "operationId"), "entries", "list_entries is called entries now"),
    ((*SIGN_IN, "security"), [{"AccessToken": []}], "sign_in asks for sign-in now"),
    ((*LIST, "parameters"), parameters("region"), "list_entries: query region is gone"),
    ((*LIST, "parameters"), [*parameters(), NEEDED], "list_entries: query unit is required now"),
    ((*LIST, "parameters"), [*parameters("to"), NEEDED | {"name": "to"}], "list_entries: query to is required now"),
    ((*LIST, "responses", "304"), GONE, "list_entries: 304 is gone"),
    ((*LIST, "responses", "200", "headers", "ETag"), GONE, "list_entries: 200: header ETag is gone"),
    ((*LIST, "responses", "200", "content", "application/json"), GONE, "list_entries: 200: application/json is gone"),
    ((*CREATE, "requestBody", "content", "application/json"), GONE, "create_entry: body: application/json is gone"),
    ((*SCHEMAS, "EntryMode", CODES), ["recall"], "EntryMode as sent: momentary is not taken any more"),
    ((*SCORE, "maximum"), 10, "Score as sent/value: maximum is narrower now"),
    ((*SCORE, "minimum"), 1, "Score as sent/value: minimum is narrower now"),
    (PATTERN, TAKEN.replace("entry|", ""), NARROWER),
    (PATTERN, TAKEN.replace("entry|", "entries|"), NARROWER),
    (PATTERN, TAKEN.replace(")*$", ")?$"), NARROWER),
    ((*SCORE, "multipleOf"), 2, "Score as sent/value: multipleOf is narrower now"),
    ((*SCORE, "enum"), [1, 2], "Score as sent/value: any value is not taken any more"),
    ((*SCORE, "type"), "string", "Score as sent/value: integer is not taken any more"),
    ((*VALUE, "type"), "number", "ScoreOut as answered/value: number may be answered now"),
    ((*SITES, "maxItems"), 5, "EntryFields as sent/sites: maxItems is narrower now"),
    ((*SITES, "minItems"), 1, "EntryFields as sent/sites: minItems is narrower now"),
    ((*SITES, "items"), {"type": "string"}, "EntryFields as sent/sites/[]: object is not taken any more"),
    (NOTES, GONE, "EntryIn as sent/note is gone"),
    ((*NOTES, "anyOf", 1), GONE, "EntryIn as sent/note: null is not taken any more"),
    ((*SCHEMAS, "EntryIn", "required", 3), "sites", "EntryIn as sent/sites is required now"),
    ((*ME, "email"), GONE, "MeOut as answered/email is gone"),
    ((*ME, "email"), {"type": "integer"}, "MeOut as answered/email: integer may be answered now"),
    (
        (*ME, "email"),
        {"anyOf": [{"type": "string"}, {"type": "null"}]},
        "MeOut as answered/email: null may be answered now",
    ),
    ((*ME, "id"), {"type": "string"}, "MeOut as answered/id: format uuid is gone"),
    ((*TOKENS, "required"), [], "TokensOut as answered/refresh_token may be absent now"),
]
ADDITIONS = [
    (("paths", "/v1/new"), {"get": {"operationId": "read_new", "responses": {}}}),
    ((*ENTRY, "post"), {"operationId": "copy_entry", "responses": {}}),
    ((*LIST, "parameters"), [*parameters(), OPTIONAL]),
    ((*LIST, "responses", "418"), {"description": "I am a teapot"}),
    ((*SCORE, "maximum"), 1000),
    (PATTERN, TAKEN.replace("entry|", "entry|aim|")),
    ((*NOTES, "anyOf", 2), {"type": "integer"}),
    ((*SCHEMAS, "EntryMode", CODES, 5), "guessed"),
    ((*SCHEMAS, "EntryIn", "properties", "weather"), {"type": "string"}),
    ((*ME, "nickname"), {"type": "string"}),
    ((*ME, "email", "maxLength"), 20),
    ((*ME, "email", "description"), "Where letters go."),
    (
        (*SCHEMAS, "TimelinePage", "properties", "items", "items"),
        {
            "oneOf": [
                {"$ref": "#/components/schemas/KnownItem"},
                {"$ref": "#/components/schemas/UnknownRecord"},
                {"type": "object", "required": ["kind", "id"], "properties": LATER},
            ]
        },
    ),
]


@pytest.mark.parametrize(("place", "value", "sentence"), BREAKS, ids=[sentence for *_, sentence in BREAKS])
def test_a_break_is_found(place: tuple[str | int, ...], value: Any, sentence: str) -> None:
    assert sentence in breaks(RELEASED, edited(place, value))


@pytest.mark.parametrize(("place", "value"), ADDITIONS, ids=["/".join(map(str, place)) for place, _ in ADDITIONS])
def test_an_addition_breaks_nobody(place: tuple[str | int, ...], value: Any) -> None:
    assert breaks(RELEASED, edited(place, value)) == []


@pytest.fixture(scope="module")
def document(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Today's document."""
    directory = tmp_path_factory.mktemp("state")
    settings = Settings(environment="development", database_url=SecretStr("postgresql://"), state_directory=directory)
    described: dict[str, Any] = create_app(settings).openapi()
    return described


def test_the_check_passes_todays_document_and_every_exception_is_needed(
    document: dict[str, Any], tmp_path: Path
) -> None:
    path = tmp_path / "openapi.json"
    path.write_text(json.dumps(document))
    check.main(str(path))
    assert set(check.ACCEPTED) <= set(breaks(RELEASED, document))


def test_the_check_names_each_break_and_fails(
    document: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "openapi.json"
    fewer = {address: operations for address, operations in document["paths"].items() if address != "/livez"}
    path.write_text(json.dumps(document | {"paths": fewer}))
    with pytest.raises(SystemExit) as end:
        check.main(str(path))
    assert end.value.code == 1
    assert capsys.readouterr().out.splitlines() == ["Clients of the last release break:", "GET /livez is gone"]
