"""The language of an answer: as the header prefers, then as the account does."""

from collections.abc import Iterator
from importlib.resources import files
from typing import NoReturn

import httpx
import pytest
from fastapi import FastAPI

from app import vocabularies
from app.errors import Unavailable
from app.http.languages import MOST_RANGES, Preference, ranges_of
from app.schemas.profile import MINIMAL_PROFILE
from tests.people import Phone
from tests.routers.test_me import another_device

pytestmark = pytest.mark.anyio

TRIGGERS = "/v1/vocabularies/triggers"


@pytest.mark.parametrize(
    ("header", "chosen"),
    [
        ("de", "de"),
        ("DE", "de"),
        ("de-AT", "de"),
        ("de_CH", "de"),
        ("de-Latn-DE-1996", "de"),
        ("en-GB, de", "en"),
        ("fr, de;q=0.2", "de"),
        ("en;q=0.8, de;q=0.9", "de"),
        ("en;q=0.5,de;q=0.5", "en"),
        ("de;q=0.5,en;q=0.5", "de"),
        ("de ; q=1.000 , en", "de"),
        ("en;q=0, *", "de"),
        ("*;q=0.1, de;q=0.05", "en"),
        ("de;q=0.5, *", "en"),
        ("de-AT;q=0, *;q=0.1", "en"),  # who refuses Austria's German does not refuse German, but did not prefer it
        ("de-AT;q=0, de", "de"),
        ("en;q=0", "de"),
        ("en;q=0, de;q=0", "pt"),
        ("en;q=0, de;q=0, pt;q=0, zh;q=0", "en"),
        ("*;q=0", "en"),
        ("fr", "en"),
        ("*", "en"),
        ("", "en"),
        (",,;q=1, de", "de"),
        ("en;q=nan, de;q=0.1", "de"),
        ("en;q=2, de;q=0.1", "de"),
        ("en;q=-1, de;q=0.1", "de"),
        ("german, deutsch", "en"),
        ("d, dex", "en"),
        ("pt-br", "pt-BR"),
        ("pt", "pt"),
        ("pt-PT", "pt"),
        ("zh-Hant-TW", "zh-Hant"),
        ("zh", "zh-Hant"),
    ],
)
async def test_the_header_decides(header: str, chosen: str) -> None:
    offered = ["en", "de", "pt", "pt-BR", "zh-Hant"]
    assert Preference(ranges_of([header])).choose(offered) == chosen


async def test_lines_of_the_header_are_one_list_of_which_the_end_is_passed_over() -> None:
    assert Preference(ranges_of(["fr", "de;q=0.1"])).choose(["en", "de"]) == "de"
    assert len(ranges_of([",".join(["fr"] * 1000), "de"])) == MOST_RANGES


@pytest.mark.parametrize(
    ("header", "locale", "chosen"),
    [
        ([], "de-DE", "de"),
        ([], "de-AT-u-nu-latn", "de"),
        ([], "gsw", "en"),
        (["*"], "de", "de"),
        (["fr"], "de", "de"),
        (["en"], "de", "en"),
        (["de;q=0, *"], "de", "en"),
        (["fr;q=0.9, *;q=0.1"], "de", "de"),
    ],
)
async def test_what_the_header_leaves_open_the_locale_decides(header: list[str], locale: str, chosen: str) -> None:
    assert Preference(ranges_of(header), locale).choose(["en", "de"]) == chosen


async def read(phone: Phone, **headers: str) -> httpx.Response:
    """The vocabulary as it is answered to the phone."""
    answer = await phone.http.get(TRIGGERS, headers=headers)
    assert answer.json()["language"] == answer.headers["Content-Language"]
    return answer


async def test_the_answer_says_its_language_and_what_it_depends_on(ada: Phone) -> None:
    english, german = await read(ada), await read(ada, **{"Accept-Language": "de"})
    assert (english.headers["Content-Language"], german.headers["Content-Language"]) == ("en", "de")
    assert english.headers["Vary"] == german.headers["Vary"] == "Accept-Language, Authorization"
    assert english.headers["ETag"] != german.headers["ETag"]
    assert german.json()["title"] == "Was den Schmerz auslöst"
    first = german.json()["items"][0]
    assert (first["display"], first["display_en"], first["display_de"]) == (
        "Langes Sitzen",
        "Sitting for long",
        "Langes Sitzen",
    )
    kept = await ada.http.get(TRIGGERS, headers={"Accept-Language": "de", "If-None-Match": german.headers["ETag"]})
    assert (kept.status_code, kept.headers["Content-Language"], kept.headers["Vary"]) == (
        304,
        "de",
        german.headers["Vary"],
    )
    other = await ada.http.get(TRIGGERS, headers={"If-None-Match": german.headers["ETag"]})
    assert other.status_code == 200


async def test_without_a_header_the_profile_decides_and_nobody_else_may_keep_it(app: FastAPI, ada: Phone) -> None:
    created = await ada.post("/profile", MINIMAL_PROFILE | {"locale": "de-CH"})
    assert created.status_code == 201
    answer = await read(ada)
    assert answer.headers["Content-Language"] == "de"
    assert answer.headers["Cache-Control"] == "private, max-age=3600"
    assert (await ada.http.get("/v1/me")).json()["locale"] == "de-CH"
    assert (await read(ada, **{"Accept-Language": "en"})).headers["Content-Language"] == "en"
    listed = await ada.http.get("/v1/vocabularies")
    assert listed.headers["Content-Language"] == "de, en"  # of LOINC codes there are English names only
    for one in listed.json()["items"]:
        read_one = await ada.http.get(f"/v1/vocabularies/{one['name']}")
        assert (read_one.headers["ETag"], read_one.headers["Content-Language"]) == (one["etag"], one["language"])
    async with another_device(app, ada, "lost") as lost:
        await ada.http.delete(f"/v1/me/sessions/{lost.session_id}")
        assert (await read(lost)).headers["Content-Language"] == "en"  # open to everybody, and nobody's locale


async def test_the_lists_are_there_without_a_database(
    app: FastAPI, ada: Phone, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unavailable() -> NoReturn:
        raise Unavailable

    monkeypatch.setattr(app.state.diary.database, "open_transaction", unavailable)
    assert (await read(ada)).headers["Content-Language"] == "en"


@pytest.fixture
def third_language(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A package whose translations have one column more, empty for a single trigger."""

    def lines(name: str) -> list[str]:
        found = (files(vocabularies) / f"{name}.csv").read_text("utf-8").splitlines()
        if name != "translations":
            return found
        added = ["" if line.startswith("skip_reasons,forgot,") else "mot" for line in found[1:]]
        return [f"{found[0]},display_fr", *(f"{line},{word}" for line, word in zip(found[1:], added, strict=True))]

    caches = (vocabularies.load, vocabularies.languages, vocabularies.translations)
    monkeypatch.setattr(vocabularies, "_lines", lines)
    for one in caches:
        one.cache_clear()
    yield
    monkeypatch.undo()
    for one in caches:
        one.cache_clear()


@pytest.mark.usefixtures("third_language")
async def test_another_language_is_a_column_and_offered_where_it_is_whole(ada: Phone) -> None:
    answer = await read(ada, **{"Accept-Language": "fr"})
    assert answer.headers["Content-Language"] == "fr"
    assert answer.json()["title"] == "mot"
    assert {(item["display"], item["display_fr"]) for item in answer.json()["items"]} == {("mot", "mot")}
    partial = await ada.http.get("/v1/vocabularies/skip_reasons", headers={"Accept-Language": "fr, de;q=0.1"})
    assert partial.headers["Content-Language"] == "de"
