"""Entries over HTTP: logged once, changed by those who have seen what they change, never lost, found again."""

from collections.abc import AsyncIterator
from typing import Any, TypeAlias
from uuid import UUID, uuid4

import asyncpg
import httpx
import pytest
from fastapi import FastAPI

from tests.answers import ids, pointers, told, without_request_id
from tests.conftest import connect
from tests.people import Person, Phone, entry, site

pytestmark = pytest.mark.anyio

Connection: TypeAlias = "asyncpg.Connection[asyncpg.Record]"


@pytest.fixture(scope="module")
async def phone(app: FastAPI) -> AsyncIterator[Phone]:
    """A patient whom the tests of single entries share: each looks at entries of its own only."""
    async with connect(app) as http:
        yield await Person().register_and_sign_in(http)


async def get(phone: Phone, sent: dict[str, Any]) -> httpx.Response:
    return await phone.get(f"/entries/{sent['id']}")


async def put(phone: Phone, sent: dict[str, Any], etag: str | None, **fields: Any) -> httpx.Response:
    return await _change(phone, "PUT", sent, etag, {k: v for k, v in (sent | fields).items() if k != "id"})


async def patch(phone: Phone, sent: dict[str, Any], etag: str | None, **fields: Any) -> httpx.Response:
    return await _change(phone, "PATCH", sent, etag, fields)


async def delete(phone: Phone, sent: dict[str, Any], etag: str | None) -> httpx.Response:
    return await _change(phone, "DELETE", sent, etag, None)


async def _change(
    phone: Phone, method: str, sent: dict[str, Any], etag: str | None, body: dict[str, Any] | None
) -> httpx.Response:
    headers = {"If-Match": etag} if etag is not None else {}
    return await phone.http.request(method, f"{phone.diary}/entries/{sent['id']}", json=body, headers=headers)


async def logged(phone: Phone, **fields: Any) -> dict[str, Any]:
    """What was sent to store a new entry."""
    sent = entry(**fields)
    assert (await phone.log(**sent)).status_code == 201
    return sent


async def give(superuser: Connection, patient: Phone, reader: Phone, *scopes: str) -> None:
    """The patient's consent for the reader, as the care team's calls will store it."""
    await superuser.execute(
        "INSERT INTO grants (patient_id, grantee_id, status, scopes, purpose, expires_at)"
        " VALUES ($1, $2, 'active', $3, 'test', now() + interval '1 day')",
        UUID(patient.patient_id),
        UUID(reader.user_id),
        list(scopes),
    )


def lent(reader: Phone, patient: Phone) -> Phone:
    """The reader's phone, pointed at the patient's diary."""
    return Phone(reader.http, reader.person, {**reader.tokens, "user": patient.tokens["user"]})


async def test_a_new_entry_is_stored_and_read_back(phone: Phone) -> None:
    sent = entry(note="after the stairs")
    answer = await phone.log(**sent)
    assert answer.status_code == 201
    assert answer.headers["ETag"] == '"1"'
    stored = answer.json()
    assert (stored["kind"], stored["version"], stored["deleted"]) == ("entry", 1, False)
    assert (stored["patient_id"], stored["author_id"]) == (phone.patient_id, phone.user_id)
    assert stored["local_date"] == "2026-03-28"
    assert stored["note"] == "after the stairs"
    again = await get(phone, sent)
    assert (again.status_code, again.headers["ETag"], again.content) == (200, '"1"', answer.content)


async def test_resending_an_entry_stores_it_once(ada: Phone) -> None:
    sent = entry(sites=[site(3)])
    first = await ada.log(**sent)
    again = await ada.log(**sent)
    assert (first.status_code, again.status_code) == (201, 200)
    assert again.content == first.content
    assert again.headers["ETag"] == '"1"'
    assert (await ada.get()).json()["head"] == 1


async def test_resending_an_entry_after_it_was_corrected_answers_it_as_it_is_now(phone: Phone) -> None:
    sent = await logged(phone, mood=3)
    corrected = await patch(phone, sent, '"1"', mood=8)
    again = await phone.log(**sent)
    assert (again.status_code, again.headers["ETag"]) == (200, '"2"')
    assert again.content == corrected.content


async def test_other_content_under_a_taken_id_is_a_conflict_that_shows_what_is_there(phone: Phone) -> None:
    sent = await logged(phone, mood=3)
    answer = await phone.log(**sent | {"mood": 4})
    assert told(answer) == (409, "conflict")
    assert answer.headers["ETag"] == '"1"'
    assert answer.json()["current"] == (await get(phone, sent)).json()


async def test_the_content_of_a_later_version_is_no_replay_of_the_first_under_an_edited_note(phone: Phone) -> None:
    sent = await logged(phone, note="first")
    await patch(phone, sent, '"1"', note="second")
    assert told(await phone.log(**sent | {"note": "third"})) == (409, "conflict")
    assert (await phone.log(**sent)).json()["note"] == "second"


async def test_a_deleted_entry_cannot_be_logged_again(phone: Phone) -> None:
    sent = await logged(phone)
    await delete(phone, sent, '"1"')
    assert told(await phone.log(**sent)) == (410, "gone")
    assert told(await phone.log(**sent | {"mood": 1})) == (410, "gone")


async def test_an_id_means_nothing_outside_its_patients_diary(phone: Phone, ada: Phone) -> None:
    sent = await logged(phone, note="hers")
    answer = await ada.log(**sent | {"note": "mine"})
    assert answer.status_code == 201
    assert (await get(phone, sent)).json()["note"] == "hers"


async def test_a_diary_that_is_not_ones_own_is_answered_like_one_that_does_not_exist(phone: Phone, ada: Phone) -> None:
    sent = await logged(ada)
    nowhere = Phone(phone.http, phone.person, {**phone.tokens, "user": {"id": "", "patient_id": str(uuid4())}})
    for diary in (lent(phone, ada), nowhere):
        answers = [
            await diary.log(),
            await diary.get("/entries"),
            await get(diary, sent),
            await put(diary, sent, '"1"'),
            await patch(diary, sent, '"1"', mood=1),
            await delete(diary, sent, '"1"'),
            await diary.get(f"/entries/{sent['id']}/versions"),
            await diary.get("/timeline"),
            await diary.get(),
        ]
        assert [told(answer) for answer in answers] == [(404, "not-found")] * 9
        assert len({str(without_request_id(answer)) for answer in answers}) == 1
    assert (await get(ada, sent)).json()["version"] == 1


async def test_an_entry_that_never_was_is_not_found(phone: Phone) -> None:
    sent = entry()
    assert told(await get(phone, sent)) == (404, "not-found")
    assert told(await phone.get(f"/entries/{sent['id']}/versions")) == (404, "not-found")
    assert told(await patch(phone, sent, '"1"', mood=1)) == (404, "not-found")
    assert told(await delete(phone, sent, '"1"')) == (404, "not-found")


@pytest.mark.parametrize("etag", ['"1"', '"999999999"'])
async def test_a_put_never_creates(phone: Phone, etag: str) -> None:
    sent = entry()
    assert told(await put(phone, sent, etag)) == (404, "not-found")
    assert told(await get(phone, sent)) == (404, "not-found")


async def test_a_replaced_entry_has_the_new_content_only(phone: Phone) -> None:
    sent = await logged(phone, note="before", mood=3)
    content = {name: value for name, value in sent.items() if name not in ("id", "note")}
    answer = await _change(phone, "PUT", sent, '"1"', content | {"mood": 7})
    assert (answer.status_code, answer.headers["ETag"]) == (200, '"2"')
    assert answer.json()["mood"] == 7
    assert "note" not in answer.json()
    assert (await get(phone, sent)).content == answer.content


async def test_a_change_without_if_match_is_refused(phone: Phone) -> None:
    sent = await logged(phone)
    for answer in (
        await put(phone, sent, None, mood=1),
        await patch(phone, sent, None, mood=1),
        await delete(phone, sent, None),
    ):
        assert told(answer) == (428, "precondition-required")
    assert (await get(phone, sent)).json()["version"] == 1


@pytest.mark.parametrize(
    "etag", ["", "1", '"1', "*", 'W/"1"', '"1", "2"', '""', '"-1"', '"1.0"', '"0"', '"01"', '"9999999999"', '"x"']
)
async def test_an_if_match_that_is_no_etag_of_ours_is_malformed(phone: Phone, etag: str) -> None:
    sent = await logged(phone)
    for answer in (
        await put(phone, sent, etag, mood=1),
        await patch(phone, sent, etag, mood=1),
        await delete(phone, sent, etag),
    ):
        assert told(answer) == (400, "malformed-request")
    assert (await get(phone, sent)).json()["version"] == 1


async def test_an_if_match_of_version_zero_does_not_make_a_put_create(phone: Phone) -> None:
    sent = entry()
    assert told(await put(phone, sent, '"0"')) == (400, "malformed-request")
    assert told(await get(phone, sent)) == (404, "not-found")


async def test_who_changes_a_version_that_is_not_current_is_shown_the_one_that_is(phone: Phone) -> None:
    sent = await logged(phone, mood=3)
    await patch(phone, sent, '"1"', mood=5)
    current = (await get(phone, sent)).json()
    for answer in (
        await put(phone, sent, '"1"', mood=9),
        await patch(phone, sent, '"1"', mood=9),
        await delete(phone, sent, '"1"'),
        await put(phone, sent, '"3"', mood=9),
    ):
        assert told(answer) == (412, "stale")
        assert answer.headers["ETag"] == '"2"'
        assert answer.json()["current"] == current
    assert (await get(phone, sent)).json() == current


async def test_a_change_whose_answer_got_lost_may_be_sent_again(ada: Phone) -> None:
    sent = await logged(ada, mood=3)
    for change in (put, patch):
        first = await change(ada, sent, '"1"', mood=5)
        again = await change(ada, sent, '"1"', mood=5)
        assert (again.status_code, again.headers["ETag"]) == (200, '"2"')
        assert again.content == first.content
    assert (await ada.get()).json()["head"] == 2


async def test_a_change_that_changes_nothing_makes_no_version(ada: Phone) -> None:
    sent = await logged(ada, mood=3, note="as it was", sleep={"hours": 7, "quality": 4})
    for answer in (await put(ada, sent, '"1"'), await patch(ada, sent, '"1"'), await patch(ada, sent, '"1"', mood=3)):
        assert (answer.status_code, answer.headers["ETag"]) == (200, '"1"')
    assert (await ada.get()).json()["head"] == 1


async def test_a_deleted_entry_is_gone_for_every_call_but_its_history(phone: Phone) -> None:
    sent = await logged(phone)
    answer = await delete(phone, sent, '"1"')
    assert (answer.status_code, answer.content) == (204, b"")
    assert told(await get(phone, sent)) == (410, "gone")
    assert told(await put(phone, sent, '"2"', mood=1)) == (410, "gone")
    assert told(await patch(phone, sent, '"2"', mood=1)) == (410, "gone")
    assert (await phone.get(f"/entries/{sent['id']}/versions")).status_code == 200


async def test_deleting_twice_is_no_error_and_one_change(ada: Phone) -> None:
    sent = await logged(ada)
    answers = [await delete(ada, sent, etag) for etag in ('"1"', '"1"', '"2"')]
    assert [answer.status_code for answer in answers] == [204, 204, 204]
    assert (await ada.get()).json()["head"] == 2


async def test_null_removes_a_field_and_absence_keeps_it(phone: Phone) -> None:
    sent = await logged(phone, mood=3, note="too much", pattern="constant")
    patched = (await patch(phone, sent, '"1"', note=None, mood=4)).json()
    assert "note" not in patched
    assert (patched["mood"], patched["pattern"], patched["sites"][0]["region"]) == (4, "constant", "lower_back_left")


async def test_nested_objects_are_merged_and_lists_are_replaced(phone: Phone) -> None:
    sent = await logged(
        phone,
        sleep={"hours": 6.5, "quality": 4},
        interference={"walking": 4, "work": 7},
        triggers=[{"code": "sitting"}, {"code": "stress"}],
    )
    patched = await patch(
        phone,
        sent,
        '"1"',
        sleep={"quality": None, "awakenings": 2},
        interference={"work": 3},
        source={"app": "diary-phone"},
        triggers=[{"code": "lifting"}],
    )
    assert patched.status_code == 200, patched.text
    assert patched.json()["sleep"] == {"hours": 6.5, "awakenings": 2}
    assert patched.json()["interference"] == {"walking": 4, "work": 3}
    assert patched.json()["source"] == {"app": "diary-phone"}
    assert patched.json()["triggers"] == [{"code": "lifting"}]


async def test_a_merge_patch_may_say_that_it_is_one(phone: Phone) -> None:
    sent = await logged(phone)
    answer = await phone.http.patch(
        f"{phone.diary}/entries/{sent['id']}",
        content=b'{"mood": 2}',
        headers={"If-Match": '"1"', "Content-Type": "application/merge-patch+json"},
    )
    assert (answer.status_code, answer.json()["mood"]) == (200, 2)


@pytest.mark.parametrize(
    ("fields", "pointer"),
    [
        ({"occurred_at": None}, "/occurred_at"),
        ({"ended_at": "2026-03-28T07:00:00+01:00"}, "/ended_at"),
        ({"no_pain": True}, "/no_pain"),
        ({"sites": [], "mood": None}, ""),
        ({"performer": "clinician_observer", "sites": [site() | {"scores": None}]}, "/sites/0/scores"),
        ({"mood": 11}, "/mood"),
        ({"sleep": {"hours": 25}}, "/sleep/hours"),
        ({"version": 7}, "/version"),
        ({"id": str(uuid4())}, "/id"),
    ],
)
async def test_a_patch_that_would_make_an_invalid_entry_changes_nothing(
    phone: Phone, fields: dict[str, Any], pointer: str
) -> None:
    sent = await logged(phone, mood=3)
    answer = await patch(phone, sent, '"1"', **fields)
    assert told(answer) == (422, "invalid")
    assert pointers(answer) == [pointer]
    assert (await get(phone, sent)).json()["version"] == 1


@pytest.mark.parametrize("body", [b"[]", b"null", b'"x"', b"7"])
async def test_a_patch_that_is_no_object_is_refused(phone: Phone, body: bytes) -> None:
    sent = await logged(phone)
    answer = await phone.http.patch(
        f"{phone.diary}/entries/{sent['id']}",
        content=body,
        headers={"If-Match": '"1"', "Content-Type": "application/json"},
    )
    assert told(answer) == (422, "invalid")


async def test_the_history_names_author_and_device_of_each_version_and_keeps_what_was_superseded(
    app: FastAPI, ada: Phone
) -> None:
    sent = await logged(ada, note="first")
    async with connect(app) as http:
        tokens = (await ada.person.sign_in(http)).json()  # a device without a name
        http.headers["Authorization"] = f"Bearer {tokens['access_token']}"
        tablet = Phone(http, ada.person, tokens)
        await patch(tablet, sent, '"1"', note="second")
    await delete(ada, sent, '"2"')
    versions = (await ada.get(f"/entries/{sent['id']}/versions")).json()["items"]
    assert [version["version"] for version in versions] == [3, 2, 1]
    assert [version["change_seq"] for version in versions] == [3, 2, 1]
    assert [version["deleted"] for version in versions] == [True, False, False]
    assert {version["author_id"] for version in versions} == {ada.user_id}
    assert [version.get("device_name") for version in versions] == ["Ada's phone", None, "Ada's phone"]
    assert "record" not in versions[0]
    assert [(v["record"]["version"], v["record"]["note"]) for v in versions[1:]] == [(2, "second"), (1, "first")]


async def test_the_history_comes_in_pages(ada: Phone) -> None:
    sent = await logged(ada, mood=0)
    for version in range(1, 5):
        await patch(ada, sent, f'"{version}"', mood=version)
    other = await logged(ada)
    path = f"/entries/{sent['id']}/versions"
    first = (await ada.get(path, params={"limit": 2})).json()
    second = (await ada.get(path, params={"limit": 2, "cursor": first["next_cursor"]})).json()
    last = (await ada.get(path, params={"limit": 2, "cursor": second["next_cursor"]})).json()
    seen = [version["version"] for page in (first, second, last) for version in page["items"]]
    assert seen == [5, 4, 3, 2, 1]
    assert last["next_cursor"] is None
    refused = await ada.get(f"/entries/{other['id']}/versions", params={"cursor": first["next_cursor"]})
    assert told(refused) == (400, "cursor-invalid")


@pytest.fixture(scope="module")
async def filled(app: FastAPI) -> AsyncIterator[Phone]:
    """A diary of four days, one of them crossed while travelling, that no test changes."""
    async with connect(app) as http:
        phone = await Person().register_and_sign_in(http)
        for fields in (
            {"occurred_at": "2026-03-26T12:00:00+01:00", "sites": [site(2)]},
            # 27 March for the patient, 28 March in UTC, and the other way round.
            {"occurred_at": "2026-03-27T20:00:00-10:00", "time_zone": "Pacific/Honolulu", "sites": [site(8)]},
            {
                "occurred_at": "2026-03-28T05:00:00+13:00",
                "time_zone": "Pacific/Auckland",
                "sites": [site(5, "foot_front_left")],
            },
            {"occurred_at": "2026-03-29T12:00:00+02:00", "sites": [site(9, characters=["burning", "tight"])]},
            {"occurred_at": "2026-03-29T12:00:00+02:00", "sites": [_vas(85)]},
            {"occurred_at": "2026-03-29T18:00:00+02:00", "sites": [], "no_pain": True},
        ):
            await logged(phone, **fields)
        yield phone


def _vas(value: int) -> dict[str, Any]:
    return {"region": "neck_back_right", "scores": [{"measure": "now", "scale": "vas_0_100_mm", "value": value}]}


@pytest.mark.parametrize(
    ("filters", "days"),
    [
        ({}, ["29", "29", "29", "27", "28", "26"]),
        ({"from": "2026-03-27"}, ["29", "29", "29", "27", "28"]),
        ({"to": "2026-03-27"}, ["27", "26"]),
        ({"from": "2026-03-27", "to": "2026-03-27"}, ["27"]),
        ({"from": "2026-03-28", "to": "2026-03-28"}, ["28"]),
        ({"from": "2026-03-30"}, []),
    ],
)
@pytest.mark.parametrize("path", ["/entries", "/timeline"])
async def test_dates_are_the_patients_own_days_both_ends_included(
    filled: Phone, path: str, filters: dict[str, str], days: list[str]
) -> None:
    found = (await filled.get(path, params=filters)).json()["items"]
    assert [item["local_date"][-2:] for item in found] == days


@pytest.mark.parametrize(
    ("filters", "scores"),
    [
        ({"region": "foot_front_left"}, [5]),
        ({"region": "lower_back_left"}, [9, 8, 2]),
        ({"region": "neck_back_left"}, []),
        ({"character": "tight"}, [9]),
        ({"scale": "vas_0_100_mm"}, [85]),
        ({"scale": "nrs_0_10"}, [9, 8, 5, 2]),
        ({"scale": "nrs_0_10", "min_score": "8"}, [9, 8]),
        ({"scale": "nrs_0_10", "min_score": "8.5"}, [9]),
        ({"scale": "nrs_0_10", "region": "lower_back_left", "to": "2026-03-28"}, [8, 2]),
    ],
)
async def test_filters_find_entries_by_site_character_and_score(
    filled: Phone, filters: dict[str, str], scores: list[int]
) -> None:
    found = (await filled.get("/entries", params=filters)).json()["items"]
    assert [item["sites"][0]["scores"][0]["value"] for item in found] == scores


@pytest.mark.parametrize(
    ("filters", "pointer"),
    [
        ("min_score=3", "#query/min_score"),
        ("scale=nrs_0_10&min_score=101", "#query/min_score"),
        ("scale=nrs_0_10&min_score=NaN", "#query/min_score"),
        ("from=2026-03-29&to=2026-03-28", "#query/from"),
        ("from=2026-02-30", "#query/from"),
        ("from=0001-01-01", "#query/from"),
        ("to=9999-12-31", "#query/to"),
        ("from=2026-03-29T00:00:00Z", "#query/from"),
        ("region=elbow", "#query/region"),
        ("character=orange", "#query/character"),
        ("scale=nrs", "#query/scale"),
        ("limit=0", "#query/limit"),
        ("limit=201", "#query/limit"),
        ("limit=ten", "#query/limit"),
        ("cursor=" + "x" * 513, "#query/cursor"),
        ("colour=red", "#query/colour"),
        ("limit=1&limit=1", "#query/limit"),
        ("from=2026-03-28&from=2026-03-29", "#query/from"),
    ],
)
async def test_a_filter_that_means_nothing_is_refused_not_ignored(filled: Phone, filters: str, pointer: str) -> None:
    answer = await filled.get(f"/entries?{filters}")
    assert told(answer) == (422, "invalid")
    assert pointers(answer) == [pointer]


@pytest.mark.parametrize("method", ["GET", "PUT", "PATCH", "DELETE", "POST"])
async def test_a_parameter_that_a_call_does_not_know_is_refused(filled: Phone, method: str) -> None:
    path = "/entries" if method == "POST" else f"/entries/{uuid4()}"
    body = None if method in ("GET", "DELETE") else entry()
    answer = await filled.http.request(method, f"{filled.diary}{path}?force=true", json=body)
    assert told(answer) == (422, "invalid")
    assert pointers(answer)[0] == "#query/force"


async def pages(phone: Phone, path: str, limit: int) -> list[str]:
    """The ids of all pages, in the order in which they came."""
    seen: list[str] = []
    cursor: str | None = None
    while cursor or not seen:
        page = await phone.get(path, params={"limit": limit} | ({"cursor": cursor} if cursor else {}))
        assert len(ids(page)) <= limit
        seen += ids(page)
        cursor = page.json()["next_cursor"]
    return seen


@pytest.mark.parametrize("limit", [1, 2, 3, 6, 7])
@pytest.mark.parametrize("path", ["/entries", "/timeline"])
async def test_pages_hold_every_entry_once_also_at_equal_instants(filled: Phone, path: str, limit: int) -> None:
    everything = ids(await filled.get(path))
    assert len(everything) == 6
    assert await pages(filled, path, limit) == everything


async def test_entries_of_one_instant_in_several_zones_come_in_one_order_on_all_pages(ada: Phone) -> None:
    offsets = ("08:00:00+01:00", "07:00:00Z", "20:00:00+13:00", "07:00:01Z", "00:30:00-06:30")
    sent = [await logged(ada, occurred_at=f"2026-03-28T{offset}") for offset in offsets]
    later, same = sent.pop(3)["id"], sorted((one["id"] for one in sent), reverse=True)
    assert await pages(ada, "/entries", 2) == [later, *same]


async def test_entries_logged_while_somebody_pages_neither_repeat_nor_hide_others(ada: Phone) -> None:
    before = [(await logged(ada, occurred_at=f"2026-03-{day}T08:00:00+01:00"))["id"] for day in range(10, 16)]
    first = await ada.get("/entries", params={"limit": 2})
    await logged(ada, occurred_at="2026-03-20T08:00:00+01:00")
    older = await logged(ada, occurred_at="2026-03-01T08:00:00+01:00")
    rest = await ada.get("/entries", params={"limit": 200, "cursor": first.json()["next_cursor"]})
    assert ids(first) + ids(rest) == [*reversed(before), older["id"]]


async def test_a_deleted_entry_is_on_no_page(ada: Phone) -> None:
    kept, removed = await logged(ada), await logged(ada)
    await delete(ada, removed, '"1"')
    assert ids(await ada.get("/entries")) == ids(await ada.get("/timeline")) == [kept["id"]]


async def test_a_cursor_is_good_for_its_own_diary_filter_and_reader_only(
    filled: Phone, ada: Phone, superuser: Connection
) -> None:
    await logged(ada)
    cursor = (await filled.get("/entries", params={"limit": 1})).json()["next_cursor"]
    await give(superuser, filled, ada, "entries:read")
    wrong = cursor[:-1] + ("A" if cursor[-1] != "A" else "B")
    answers = [
        await ada.get("/entries", params={"cursor": cursor}),
        await lent(ada, filled).get("/entries", params={"cursor": cursor}),
        await filled.get("/entries", params={"cursor": cursor, "from": "2026-03-27"}),
        await filled.get("/timeline", params={"cursor": cursor}),
        await filled.get("/entries", params={"cursor": wrong}),
        await filled.get("/entries", params={"cursor": ""}),
        await filled.get("/entries", params={"cursor": "é"}),
    ]
    assert [told(answer) for answer in answers] == [(400, "cursor-invalid")] * len(answers)
    assert len(ids(await filled.get("/entries", params={"cursor": cursor, "limit": 7}))) == 5


@pytest.mark.parametrize("path", ["/entries", "/timeline"])
async def test_who_knows_a_page_is_told_so_until_the_diary_moves(ada: Phone, path: str) -> None:
    sent = await logged(ada)
    etag = (await ada.get(path)).headers["ETag"]
    for known in (etag, f"W/{etag}"):
        unmodified = await ada.get(path, headers={"If-None-Match": known})
        assert (unmodified.status_code, unmodified.content) == (304, b"")
        assert unmodified.headers["ETag"] == etag
    await patch(ada, sent, '"1"', mood=1)
    moved = await ada.get(path, headers={"If-None-Match": etag})
    assert (moved.status_code, ids(moved)) == (200, [sent["id"]])
    await delete(ada, sent, '"2"')
    emptied = await ada.get(path, headers={"If-None-Match": moved.headers["ETag"]})
    assert (emptied.status_code, ids(emptied)) == (200, [])


async def test_a_scale_used_outside_the_age_it_is_validated_for_is_stored_and_flagged(app: FastAPI) -> None:
    async with connect(app) as http:
        child = await Person(birth_date="2018-04-01").register_and_sign_in(http)
        flagged = await child.log(performer="caregiver")
        assert flagged.status_code == 201
        assert flagged.json()["outside_validated_age"] == ["nrs_0_10"]
        grown_up = await child.log(performer="caregiver", occurred_at="2026-04-01T08:00:00+02:00")
        assert grown_up.json()["outside_validated_age"] == []


async def test_every_answer_about_a_diary_is_kept_out_of_caches_and_browsers(phone: Phone) -> None:
    sent = await logged(phone)
    listed = await phone.get("/entries")
    answers = [
        listed,
        await phone.get("/entries", headers={"If-None-Match": listed.headers["ETag"]}),
        await get(phone, sent),
        await phone.get("/timeline"),
        await phone.get(f"/entries/{sent['id']}/versions"),
        await phone.get(f"/entries/{uuid4()}"),
        await phone.log(sites=[]),
        await delete(phone, sent, '"1"'),
    ]
    assert [answer.status_code for answer in answers] == [200, 304, 200, 200, 200, 404, 422, 204]
    for answer in answers:
        assert answer.headers["Cache-Control"] == "no-store"
        assert answer.headers["X-Content-Type-Options"] == "nosniff"
        assert answer.headers["Referrer-Policy"] == "no-referrer"
        assert answer.headers["Content-Security-Policy"] == "default-src 'none'; frame-ancestors 'none'"
        assert UUID(answer.headers["X-Request-Id"])


async def test_the_callers_request_id_comes_back(phone: Phone) -> None:
    mine = str(uuid4())
    answer = await phone.get(f"/entries/{uuid4()}", headers={"X-Request-Id": mine})
    assert answer.headers["X-Request-Id"] == answer.json()["request_id"] == mine


async def test_whoever_may_not_read_notes_finds_no_trace_of_one_and_cannot_overwrite_it(
    ada: Phone, bob: Phone, superuser: Connection
) -> None:
    sent = await logged(ada, note="for nobody", mood=3)
    await patch(ada, sent, '"1"', note="for nobody else", mood=4)
    await give(superuser, ada, bob, "entries:read", "entries:write")
    helper = lent(bob, ada)
    assert "note" not in (await get(helper, sent)).json()
    for path in ("/entries", "/timeline", f"/entries/{sent['id']}/versions"):
        page = await helper.get(path)
        assert page.status_code == 200
        assert "note" not in page.text
    content = {name: value for name, value in sent.items() if name not in ("id", "note")}
    replaced = await _change(helper, "PUT", sent, '"2"', content | {"mood": 9})
    assert (replaced.status_code, replaced.json()["mood"]) == (200, 9)
    assert "note" not in replaced.json()
    kept = (await get(ada, sent)).json()
    assert (kept["note"], kept["mood"], kept["author_id"]) == ("for nobody else", 9, bob.user_id)


async def test_a_consent_that_does_not_cover_a_call_is_said_so(ada: Phone, bob: Phone, superuser: Connection) -> None:
    sent = await logged(ada)
    await give(superuser, ada, bob, "entries:read")
    reader = lent(bob, ada)
    assert (await get(reader, sent)).status_code == 200
    for answer in (
        await reader.log(),
        await put(reader, sent, '"1"', mood=1),
        await patch(reader, sent, '"1"', mood=1),
        await delete(reader, sent, '"1"'),
    ):
        assert told(answer) == (403, "insufficient-scope")
    assert (await get(ada, sent)).json()["version"] == 1


async def test_an_erased_diary_is_gone(ada: Phone, superuser: Connection) -> None:
    sent = await logged(ada)
    await superuser.execute("UPDATE patients SET erased_at = now() WHERE id = $1", UUID(ada.patient_id))
    for answer in (await ada.log(), await get(ada, sent), await ada.get("/entries"), await ada.get()):
        assert told(answer) == (410, "gone")


async def test_a_patch_of_an_older_version_never_overwrites_a_newer_one(ada: Phone) -> None:
    sent = entry(mood=5)
    await ada.log(**sent)
    path = f"{ada.diary}/entries/{sent['id']}"
    ended = {"ended_at": "2026-03-28T09:00:00+01:00"}
    assert (await ada.http.patch(path, json=ended, headers={"If-Match": '"1"'})).status_code == 200
    stale = await ada.http.patch(path, json={"ongoing": True}, headers={"If-Match": '"1"'})  # valid for version 1 only
    assert told(stale) == (412, "stale")
    ahead = await ada.http.patch(path, json={"mood": 1}, headers={"If-Match": '"3"'})
    assert told(ahead) == (412, "stale")
    lost = await ada.http.patch(path, json=ended, headers={"If-Match": '"1"'})  # its answer got lost: it is there
    assert (lost.status_code, lost.headers["ETag"]) == (200, '"2"')


async def test_a_new_entry_says_where_it_is(ada: Phone) -> None:
    answer = await ada.log()
    assert (await ada.http.get(answer.headers["Location"])).json() == answer.json()


@pytest.mark.parametrize("limit", ["1_0", "+5", "٣", " 5"])
async def test_a_number_in_a_query_is_plain_digits(ada: Phone, limit: str) -> None:
    answer = await ada.get("/entries", params={"limit": limit})
    assert (told(answer), pointers(answer)) == ((422, "invalid"), ["#query/limit"])


@pytest.mark.parametrize("known", ["*", '"other", {etag}', "W/{etag}"])
async def test_a_page_compares_every_etag_of_a_list(ada: Phone, known: str) -> None:
    etag = (await ada.get("/entries")).headers["ETag"]
    assert (await ada.get("/entries", headers={"If-None-Match": known.format(etag=etag)})).status_code == 304
