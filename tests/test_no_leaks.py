"""What somebody wrote is for its owner: no log, error, metric or PostgreSQL log ever holds it."""

import io
import logging
from collections.abc import AsyncIterator, Iterator
from typing import TypeAlias
from uuid import UUID, uuid4

import anyio
import asyncpg
import httpx
import pytest
from fastapi import FastAPI

from app import logs
from app.schemas.entries import EntryIn
from app.services import entries
from tests.answers import told
from tests.conftest import connect
from tests.people import Person, Phone, entry

pytestmark = pytest.mark.anyio

Connection: TypeAlias = "asyncpg.Connection[asyncpg.Record]"

CANARY = "zaunkoenig"  # part of every secret below, and a word of no other test: the server's log is everybody's
NOTE = f"{CANARY} in my lower back"
OTHER_NOTE = f"{CANARY} in my neck"


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
async def refusing_note(superuser: Connection) -> AsyncIterator[None]:
    """A database that refuses the note by a CHECK: PostgreSQL's own message would show the whole row."""
    await superuser.execute(f"ALTER TABLE records ADD CONSTRAINT quiet CHECK (note <> '{NOTE}') NOT VALID")
    yield
    await superuser.execute("ALTER TABLE records DROP CONSTRAINT quiet")


async def everywhere(http: httpx.AsyncClient, written: io.StringIO, postgres_log: anyio.Path) -> str:
    """All that outsiders of a diary may come to see."""
    metrics = (await http.get("/metrics")).text
    assert "diary_http_requests_total" in metrics
    return written.getvalue() + metrics + await postgres_log.read_text(errors="replace")


async def refusals(phone: Phone, stranger: Phone) -> list[httpx.Response]:
    """Answers to a diary full of the word that are not for showing it."""
    sent = entry(note=NOTE)
    url = f"{phone.diary}/entries/{sent['id']}"
    assert (await phone.log(**sent)).json()["note"] == NOTE
    return [
        await phone.log(**entry(note=NOTE) | {"mood": CANARY}),
        await phone.log(**entry(note=NOTE) | {CANARY: CANARY}),
        await phone.log(**entry(note=f"{NOTE}\x00")),
        await phone.get(f"/entries?region={CANARY}&{CANARY}={CANARY}"),
        await phone.get(f"/{CANARY}"),
        await phone.http.request(CANARY.upper(), url),
        await phone.http.put(url, json={CANARY: NOTE}, headers={"If-Match": CANARY}),
        await phone.http.patch(url, json={"note": NOTE}, headers={"Content-Type": f"text/{CANARY}"}),
        await phone.http.get(url, headers={"Authorization": f"Bearer {CANARY}"}),
        await stranger.http.get(url),
        await stranger.http.get(f"{url}/versions"),
        await stranger.http.get(f"{phone.diary}/timeline"),
        await stranger.http.post(f"{phone.diary}/entries", json=sent),
        await Person(email=phone.person.email, password=f"{CANARY} sings another song").sign_in(stranger.http),
        await Person(email=f"{CANARY}@", password=CANARY).sign_in(stranger.http),
        await Person(email=phone.person.email, password=CANARY).register(stranger.http),
        await stranger.http.post("/v1/auth/refresh", json={"refresh_token": f"pdr_{CANARY}"}),
    ]


async def test_what_a_refused_request_held_is_in_no_answer_log_or_metric(
    canary: Phone, bob: Phone, written: io.StringIO, postgres_log: anyio.Path
) -> None:
    answers = await refusals(canary, bob)
    assert all(400 <= answer.status_code < 500 for answer in answers)
    assert [answer.text for answer in answers if CANARY in answer.text] == []
    assert not any(CANARY in str(answer.headers) for answer in answers)
    assert '"event": "request"' in written.getvalue()
    assert CANARY not in await everywhere(canary.http, written, postgres_log)


async def test_a_diary_shows_its_words_to_its_owner_and_leaves_no_trace_of_them(
    canary: Phone, written: io.StringIO, postgres_log: anyio.Path
) -> None:
    sent = entry(note=NOTE)
    url = f"{canary.diary}/entries/{sent['id']}"
    answers = [
        await canary.log(**sent),
        await canary.log(**sent | {"note": OTHER_NOTE}),
        await canary.http.patch(url, json={"note": OTHER_NOTE}, headers={"If-Match": '"1"'}),
        await canary.http.patch(url, json={"note": NOTE}, headers={"If-Match": '"1"'}),
        await canary.http.get(url),
        await canary.http.get(f"{url}/versions"),
        await canary.get("/timeline"),
        await canary.http.get("/v1/me"),
        await canary.http.get("/v1/me/sessions"),
    ]
    assert [answer.status_code for answer in answers] == [201, 409, 200, 412, 200, 200, 200, 200, 200]
    assert all(CANARY in answer.text for answer in answers)
    assert (await canary.http.delete(url, headers={"If-Match": '"2"'})).status_code == 204
    assert CANARY not in await everywhere(canary.http, written, postgres_log)


async def test_a_row_that_the_database_refuses_is_shown_nowhere(
    canary: Phone, refusing_note: None, written: io.StringIO, postgres_log: anyio.Path
) -> None:
    answer = await canary.log(note=NOTE)
    assert told(answer) == (500, "internal-error")
    assert CANARY not in answer.text
    assert "asyncpg.exceptions.CheckViolationError" in written.getvalue()
    seen = await everywhere(canary.http, written, postgres_log)
    assert 'violates check constraint "quiet"' in seen
    assert CANARY not in seen
    assert (await canary.get()).json()["head"] == 0


async def test_an_exception_that_nobody_expected_is_told_by_its_place_only(
    canary: Phone, written: io.StringIO, postgres_log: anyio.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(body: EntryIn, *_: object) -> None:
        raise KeyError(body.note, canary.person.email)

    monkeypatch.setattr(entries, "change_of", fail)
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
