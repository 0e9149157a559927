"""The coded lists: nothing is lost between the files, the code and the wire."""

import csv
import io
import json
from importlib.resources import files
from typing import Any

import httpx
import pytest
from fastapi import FastAPI

from app import vocabularies
from app.http import problems
from app.http.middleware import RequestContext
from app.routers.vocabularies import router
from app.schemas.kinds import KINDS
from app.schemas.vocabularies import LIST_EXAMPLE, VOCABULARY_EXAMPLE, VocabularyList, VocabularyOut
from app.services import adherence

NAMES = vocabularies.names()
EVERY = pytest.mark.parametrize("name", NAMES)


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture
def app() -> FastAPI:
    app = FastAPI(generate_unique_id_function=lambda route: route.name)
    app.include_router(router)
    problems.install(app)
    app.add_middleware(RequestContext)
    return app


@pytest.fixture
def client(app: FastAPI) -> httpx.AsyncClient:
    return httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://diary")


def document(name: str, language: str = "en") -> dict[str, Any]:
    """What is answered."""
    told: dict[str, Any] = json.loads(vocabularies.load(name).editions[language].document)
    return told


def items(name: str, language: str = "en") -> dict[str, dict[str, Any]]:
    """The items of the document, by code."""
    return {item["code"]: item for item in document(name, language)["items"]}


def test_every_file_has_a_name_and_every_name_a_file() -> None:
    stems = {f.name.removesuffix(".csv") for f in files(vocabularies).iterdir() if f.name.endswith(".csv")}
    assert stems == {*NAMES, "translations"}
    assert list(NAMES) == sorted(NAMES)


@pytest.mark.parametrize("name", ["", "unknown", "../config", "pain_scales.csv", "__init__"])
def test_an_unknown_name_is_a_lookup_error(name: str) -> None:
    with pytest.raises(LookupError):
        vocabularies.load(name)


@EVERY
def test_codes_are_unique_and_every_row_is_complete(name: str) -> None:
    vocabulary = vocabularies.load(name)
    assert len(vocabulary.codes) == len(vocabulary.rows) > 0
    assert "" not in vocabulary.codes
    assert vocabulary.columns[:2] == ("code", "display_en")
    assert all(set(row) == set(vocabulary.columns) and row["display_en"] for row in vocabulary.rows)


@EVERY
def test_the_document_says_what_the_file_says(name: str) -> None:
    rows = list(csv.reader(io.StringIO((files(vocabularies) / f"{name}.csv").read_text("utf-8"))))[1:]
    told_of_all = document(name)
    assert (told_of_all["name"], told_of_all["title"]) == (name, vocabularies.TITLES[name])
    assert [item["code"] for item in told_of_all["items"]] == [row[0] for row in rows]
    for item, row in zip(told_of_all["items"], rows, strict=True):
        told = json.dumps(item, ensure_ascii=False)
        for cell in row:
            parts = cell.split("|") if "|" in cell else [cell]
            assert cell == "yes" or all(
                json.dumps(p.removesuffix(".0"), ensure_ascii=False)[1:-1] in told for p in parts
            )


@EVERY
def test_no_item_answers_an_empty_text(name: str) -> None:
    for item in items(name).values():
        assert "" not in item.values()


@EVERY
def test_a_document_is_what_the_schema_promises(name: str) -> None:
    for edition in vocabularies.load(name).editions.values():
        VocabularyOut.model_validate_json(edition.document)


def test_the_examples_are_true() -> None:
    VocabularyOut.model_validate(VOCABULARY_EXAMPLE)
    VocabularyList.model_validate(LIST_EXAMPLE)
    assert VOCABULARY_EXAMPLE["items"] == [items("pain_characters")["aching"]]


def test_numbers_and_lists_are_typed() -> None:
    flacc = items("pain_scales")["flacc"]
    assert (flacc["min"], flacc["max"], flacc["step"], flacc["max_age_years"]) == (0, 10, 1, 7)
    assert flacc["performers"] == ["caregiver", "clinician_observer"]
    assert items("pain_scales")["painad"]["loinc"] is None
    assert items("ingredients")["aspirin"]["atc"] == ["A01AD05", "B01AC06", "N02BA01"]
    assert items("opioids_mme_cdc_2022")["codeine"]["mme_factor"] == 0.15
    assert items("conditions")["back_pain"]["used_by"] == []


def test_a_missing_factor_is_null_and_never_zero() -> None:
    assert items("opioids_mme_cdc_2022")["buprenorphine"]["mme_factor"] is None


def test_codes_of_other_systems_stay_text() -> None:
    assert items("body_regions")["lower_back_left"]["snomed_ct"] == "1017210004"
    assert items("ingredients")["acetaminophen"]["rxnorm"] == "161"


@pytest.mark.parametrize(
    ("name", "code", "verified", "note"),
    [
        ("loinc", "72514-3", True, None),
        ("body_regions", "face_left", True, "snomed"),
        ("body_regions", "unspecified", False, None),
        ("ingredients", "zopiclone", False, None),
        ("opioids_mme_cdc_2022", "morphine", True, None),
        ("pain_scales", "nrs_0_10", False, None),
    ],
)
def test_a_row_says_whether_it_was_verified(name: str, code: str, verified: bool, note: str | None) -> None:
    item = items(name)[code]
    assert (item["verified"], item["verification_note"]) == (verified, note)


def test_an_ingredient_is_shown_by_its_name() -> None:
    assert items("ingredients")["naloxone"]["display"] == "naloxone"
    assert items("loinc")["38203-6"]["display"] == "Pain onset"
    assert items("ingredients", "de")["acetaminophen"]["display"] == "Paracetamol"


def test_no_two_vocabularies_or_languages_share_an_etag() -> None:
    editions = [edition for name in NAMES for edition in vocabularies.load(name).editions.values()]
    etags = {edition.etag for edition in editions}
    assert len(etags) == len(editions) > len(NAMES)
    assert all(etag.startswith('"') and etag.endswith('"') for etag in etags)


@pytest.mark.anyio
async def test_the_list_names_every_vocabulary_with_the_etag_it_answers(client: httpx.AsyncClient) -> None:
    answer = await client.get("/v1/vocabularies")
    listed = VocabularyList.model_validate_json(answer.content).items
    assert tuple(item.name for item in listed) == NAMES
    for item in listed:
        assert (await client.get(f"/v1/vocabularies/{item.name}")).headers["ETag"] == item.etag


@pytest.mark.anyio
async def test_a_vocabulary_is_answered_as_it_is_stored_and_may_be_cached(client: httpx.AsyncClient) -> None:
    answer = await client.get("/v1/vocabularies/pain_scales")
    assert answer.status_code == 200
    assert answer.content == vocabularies.load("pain_scales").editions["en"].document
    assert answer.headers["Content-Type"] == "application/json"
    assert answer.headers["Cache-Control"] == "public, max-age=3600"


@pytest.mark.anyio
@pytest.mark.parametrize("sent", ["{}", "W/{}", '"other", {}', '"other",W/{}', "*"])
async def test_who_has_the_vocabulary_is_told_so(client: httpx.AsyncClient, sent: str) -> None:
    etag = vocabularies.load("triggers").editions["en"].etag
    answer = await client.get("/v1/vocabularies/triggers", headers={"If-None-Match": sent.format(etag)})
    assert (answer.status_code, answer.content, answer.headers["ETag"]) == (304, b"", etag)
    assert answer.headers["Cache-Control"] == "public, max-age=3600"


@pytest.mark.anyio
@pytest.mark.parametrize("sent", ['"other"', "", "triggers", '"'])
async def test_who_has_another_version_gets_this_one(client: httpx.AsyncClient, sent: str) -> None:
    answer = await client.get("/v1/vocabularies/triggers", headers={"If-None-Match": sent})
    assert answer.status_code == 200


@pytest.mark.anyio
@pytest.mark.parametrize("name", ["canary", "%00", "pain_scales.csv", "..%2fconfig", "é"])
async def test_an_unknown_vocabulary_is_not_found_and_not_echoed(client: httpx.AsyncClient, name: str) -> None:
    answer = await client.get(f"/v1/vocabularies/{name}")
    assert (answer.status_code, answer.headers["Content-Type"]) == (404, "application/problem+json")
    assert "canary" not in answer.text


def test_the_description_names_the_operations_and_their_answers(app: FastAPI) -> None:
    paths = app.openapi()["paths"]
    listing, reading = paths["/v1/vocabularies"]["get"], paths["/v1/vocabularies/{name}"]["get"]
    assert (listing["operationId"], reading["operationId"]) == ("list_vocabularies", "read_vocabulary")
    assert {"200", "304"} <= set(reading["responses"])
    body = reading["responses"]["200"]["content"]["application/json"]
    assert body["schema"] == {"$ref": "#/components/schemas/VocabularyOut"}
    assert body["example"] == VOCABULARY_EXAMPLE
    assert {one["name"] for one in reading["parameters"]} == {"name", "Accept-Language", "If-None-Match"}


def test_every_scope_opens_something_and_nothing_needs_another() -> None:
    of_kinds = {scope for kind in KINDS for scope in (kind.read_scope, kind.write_scope)}
    assert set(vocabularies.load("scopes").ordered_codes) == of_kinds | {"notes:read", adherence.SCOPE}
