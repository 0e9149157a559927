"""What somebody wrote is for its owner: no log, error, metric or PostgreSQL log ever holds it."""

import io
import logging
from collections.abc import AsyncIterator, Iterator
from typing import Any, TypeAlias
from uuid import UUID, uuid4

import anyio
import asyncpg
import httpx
import pytest
from fastapi import FastAPI

from app import logs
from app.schemas.entries import EntryIn
from app.services import records
from tests.answers import told
from tests.conftest import connect
from tests.people import Person, Phone, dose, entry, lent, profile, treatment

pytestmark = pytest.mark.anyio

Connection: TypeAlias = "asyncpg.Connection[asyncpg.Record]"

CANARY = "zaunkoenig"  # part of every secret below, and a word of no other test: the server's log is everybody's
NOTE = f"{CANARY} in my lower back"
OTHER_NOTE = f"{CANARY} in my neck"
BIRTH_DATE = "1911-11-11"  # of no other test either
SECRETS = (CANARY, BIRTH_DATE, BIRTH_DATE.replace("-", ", "))


@pytest.fixture
def written() -> Iterator[io.StringIO]:
    """Every line that the service writes while the test runs, from the lowest level on and of every library."""
    lines = io.StringIO()
    handler = logging.StreamHandler(lines)
    handler.setFormatter(logs.JsonLines())
    loggers = [logging.getLogger(name) for name in ("", "diary", "uvicorn", "sqlalchemy", "asyncio", "asyncpg")]
    levels = [logger.level for logger in loggers]
    loggers[0].addHandler(handler)
    for logger in loggers:
        logger.setLevel(logging.DEBUG)
    yield lines
    for logger, level in zip(loggers, levels, strict=True):
        logger.setLevel(level)
    loggers[0].removeHandler(handler)


@pytest.fixture
async def postgres_log(superuser: Connection) -> anyio.Path:
    """The log file of the run's PostgreSQL."""
    return anyio.Path(await superuser.fetchval("SHOW data_directory")).parent / "postgres.log"


@pytest.fixture
async def canary(app: FastAPI) -> AsyncIterator[Phone]:
    """Somebody whose address, password, name and device all hold the word."""
    person = Person(email=f"{CANARY}-{uuid4().hex}@example.org", password=f"{CANARY} sings a long song")
    async with connect(app) as http:
        await person.register(http)
        answer = await person.sign_in(http, device_name=f"{CANARY}'s phone")
        http.headers["Authorization"] = f"Bearer {answer.json()['access_token']}"
        yield Phone(http, person, answer.json())


@pytest.fixture
async def refusing(superuser: Connection) -> AsyncIterator[None]:
    """A database that refuses note and birth date by a CHECK: PostgreSQL's own message would show the whole row."""
    await superuser.execute(f"ALTER TABLE records ADD CONSTRAINT quiet CHECK (note <> '{NOTE}') NOT VALID")
    await superuser.execute(f"ALTER TABLE patients ADD CONSTRAINT quiet CHECK (birth_date <> '{BIRTH_DATE}') NOT VALID")
    yield
    for table in ("records", "patients"):
        await superuser.execute(f"ALTER TABLE {table} DROP CONSTRAINT quiet")


def plan() -> dict[str, Any]:
    """A new treatment that holds the word wherever it has words."""
    return treatment("08:00", name=f"{CANARY} drops", prescriber=f"Dr. {CANARY}", note=NOTE)


def traces(text: str) -> list[str]:
    return [secret for secret in SECRETS if secret in text]


async def everywhere(http: httpx.AsyncClient, written: io.StringIO, postgres_log: anyio.Path) -> str:
    """All that outsiders of a diary may come to see."""
    metrics = (await http.get("/metrics")).text
    assert "diary_http_requests_total" in metrics
    return written.getvalue() + metrics + await postgres_log.read_text(errors="replace")


async def refusals(phone: Phone, stranger: Phone) -> list[httpx.Response]:
    """Answers to a diary full of the word that are not for showing it."""
    sent, agreed = entry(note=NOTE), plan()
    assert (await phone.log(**sent)).json()["note"] == NOTE
    assert (await phone.post("/treatments", agreed)).json()["note"] == NOTE
    assert (await phone.post("/profile", profile(birth_date=BIRTH_DATE))).json()["birth_date"] == BIRTH_DATE
    path, days = f"/entries/{sent['id']}", {"from": "2026-03-01", "to": "2026-03-31"}
    return [
        await phone.log(**entry(note=NOTE) | {"mood": CANARY}),
        await phone.log(**entry(note=NOTE) | {f"{CANARY}!": CANARY}),
        await phone.log(**entry(note=f"{NOTE}\x00")),
        await phone.post("/treatments", plan() | {"category": CANARY}),
        await phone.post("/treatments", plan() | {"ingredients": [{"name": CANARY}] * 2}),
        await phone.post("/treatment-events", dose(agreed["id"], note=NOTE, status=CANARY)),
        await phone.put("/profile", profile(birth_date=BIRTH_DATE, conditions=[CANARY])),
        await phone.put("/profile", profile(birth_date=BIRTH_DATE, occurred_at="1911-11-10T08:00:00Z")),
        await phone.get(f"/entries?region={CANARY}&{CANARY}!={CANARY}"),
        await phone.get(f"/timeline?kinds={CANARY}"),
        await phone.get(f"/adherence?from={CANARY}&to={BIRTH_DATE}"),
        await phone.get(f"/treatments/{agreed['id']}/slots?from=2026-03-01&to={BIRTH_DATE}"),
        await phone.get(f"/{CANARY}"),
        await phone.http.request(CANARY.upper(), f"{phone.diary}{path}"),
        await phone.http.put(f"{phone.diary}{path}", json={f"{CANARY}!": NOTE}, headers={"If-Match": CANARY}),
        await phone.http.patch(f"{phone.diary}{path}", json={"note": NOTE}, headers={"Content-Type": f"text/{CANARY}"}),
        await phone.get(path, headers={"Authorization": f"Bearer {CANARY}"}),
        *[await stranger.get(f"{path}{more}") for more in ("", "/versions")],
        *[await stranger.get(one) for one in ("", "/timeline", "/treatments", "/treatment-events", "/profile")],
        *[await stranger.get(one, params=days) for one in ("/adherence", f"/treatments/{agreed['id']}/slots")],
        await stranger.post("/entries", sent),
        await stranger.post("/treatments", agreed),
        await Person(email=phone.person.email, password=f"{CANARY} sings another song").sign_in(stranger.http),
        await Person(email=f"{CANARY}@", password=CANARY).sign_in(stranger.http),
        await Person(email=phone.person.email, password=CANARY).register(stranger.http),
        await stranger.http.post("/v1/auth/refresh", json={"refresh_token": f"pdr_{CANARY}"}),
    ]


async def test_what_a_refused_request_held_is_in_no_answer_log_or_metric(
    canary: Phone, bob: Phone, written: io.StringIO, postgres_log: anyio.Path
) -> None:
    answers = await refusals(canary, lent(bob, canary))
    assert all(400 <= answer.status_code < 500 for answer in answers)
    assert [answer.text for answer in answers if traces(answer.text)] == []
    assert not any(traces(str(answer.headers)) for answer in answers)
    assert '"event": "request"' in written.getvalue()
    assert traces(await everywhere(canary.http, written, postgres_log)) == []


async def test_a_diary_shows_its_words_to_its_owner_and_leaves_no_trace_of_them(
    canary: Phone, written: io.StringIO, postgres_log: anyio.Path
) -> None:
    sent, agreed, born = entry(note=NOTE), plan(), profile(birth_date=BIRTH_DATE, source={"app": CANARY})
    path, treated = f"/entries/{sent['id']}", f"/treatments/{agreed['id']}"
    answers = [
        await canary.log(**sent),
        await canary.log(**sent | {"note": OTHER_NOTE}),
        await canary.patch(path, {"note": OTHER_NOTE}),
        await canary.patch(path, {"note": NOTE}),
        *[await canary.get(one) for one in (path, f"{path}/versions", "/timeline")],
        *[await canary.http.get(one) for one in ("/v1/me", "/v1/me/sessions")],
        await canary.post("/treatments", agreed),
        await canary.post("/treatments", agreed | {"prescriber": None}),
        await canary.patch(treated, {"note": OTHER_NOTE}),
        *[await canary.get(one) for one in (treated, f"{treated}/versions", "/timeline")],
        await canary.post("/treatment-events", dose(agreed["id"])),
        await canary.get("/adherence", params={"from": "2026-03-28", "to": "2026-03-28"}),
        await canary.post("/profile", born),
        *[await canary.get(one) for one in ("/profile", "/profile/versions")],
    ]
    statuses = [201, 409, 200, 412, *[200] * 5, 201, 409, *[200] * 4, 201, 200, 201, 200, 200]
    assert [answer.status_code for answer in answers] == statuses
    assert all(CANARY in answer.text for answer in answers)
    assert (await canary.get()).json()["birth_date"] == BIRTH_DATE
    for one in (path, treated):
        assert (await canary.delete(one, version=2)).status_code == 204
    assert traces(await everywhere(canary.http, written, postgres_log)) == []


@pytest.mark.parametrize(
    ("path", "body"),
    [("/entries", entry(note=NOTE)), ("/treatments", plan()), ("/profile", profile(birth_date=BIRTH_DATE))],
    ids=["entry", "treatment", "profile"],
)
async def test_a_row_that_the_database_refuses_is_shown_nowhere(
    canary: Phone,
    refusing: None,
    written: io.StringIO,
    postgres_log: anyio.Path,
    path: str,
    body: dict[str, Any],
) -> None:
    answer = await canary.post(path, body)
    assert told(answer) == (500, "internal-error")
    assert traces(answer.text) == []
    assert "asyncpg.exceptions.CheckViolationError" in written.getvalue()
    seen = await everywhere(canary.http, written, postgres_log)
    assert 'violates check constraint "quiet"' in seen
    assert traces(seen) == []
    assert (await canary.get()).json()["head"] == 0


async def test_an_exception_that_nobody_expected_is_told_by_its_place_only(
    canary: Phone, written: io.StringIO, postgres_log: anyio.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(_: object, body: EntryIn, *more: object) -> None:
        raise KeyError(body.note, canary.person.email, more)

    monkeypatch.setattr(records, "change_of", fail)
    answer = await canary.log(note=NOTE)
    assert told(answer) == (500, "internal-error")
    assert answer.json()["request_id"] == answer.headers["X-Request-Id"]
    assert "builtins.KeyError" in written.getvalue()
    assert answer.headers["X-Request-Id"] in written.getvalue()
    assert CANARY not in answer.text + await everywhere(canary.http, written, postgres_log)


async def test_passwords_and_tokens_are_stored_nowhere_as_they_are(
    canary: Phone, superuser: Connection, written: io.StringIO, postgres_log: anyio.Path
) -> None:
    answer = await canary.http.post("/v1/auth/refresh", json={"refresh_token": canary.tokens["refresh_token"]})
    secrets = [canary.person.password, canary.tokens["refresh_token"], canary.tokens["access_token"]]
    secrets += [answer.json()["refresh_token"], answer.json()["access_token"]]
    rows = await superuser.fetch(
        "SELECT to_jsonb(u)::text FROM users u WHERE id = $1"
        " UNION ALL SELECT to_jsonb(s)::text FROM sessions s WHERE user_id = $1"
        " UNION ALL SELECT encode(digest, 'escape') FROM refresh_tokens WHERE session_id = $2",
        UUID(canary.user_id),
        UUID(canary.session_id),
    )
    assert len(rows) == 4
    seen = "".join(row[0] for row in rows) + await everywhere(canary.http, written, postgres_log)
    assert [secret for secret in secrets if secret in seen] == []
