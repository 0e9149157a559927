"""Accounts that an operator makes: what a link is good for, who is vouched for, and what is refused."""

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any, TypeAlias
from uuid import UUID, uuid4

import asyncpg
import pytest
from fastapi import FastAPI

from app.config import Settings
from app.errors import NotFound
from app.postgres.connections import NotConnected
from app.postgres.database import Database
from app.services import invitations
from app.services.invitations import Refused
from tests.answers import ids, told
from tests.conftest import connect, create_database, url_of
from tests.people import PASSWORD, Person, Phone, grant, lent
from tests.waiting import until_locked_out

pytestmark = pytest.mark.anyio

Connection: TypeAlias = "asyncpg.Connection[asyncpg.Record]"


@pytest.fixture
def database(app: FastAPI) -> Database:
    """The database as the service uses it."""
    found: Database = app.state.diary.database
    return found


@pytest.fixture
async def clinic(owner_url: str) -> str:
    """The name of an organisation."""
    name = f"Clinic {uuid4().hex}"
    await invitations.add_organisation(owner_url, name)
    return name


@pytest.fixture
async def weber(app: FastAPI, database: Database, owner_url: str, clinic: str) -> AsyncIterator[Phone]:
    """Dr. Weber, a physician of that clinic, who followed the link."""
    person = Person()
    await accept(database, await invite(owner_url, person, organisation=clinic))
    async with connect(app) as http:
        answer = await person.sign_in(http)
        http.headers["Authorization"] = f"Bearer {answer.json()['access_token']}"
        yield Phone(http, person, answer.json())


async def invite(owner_url: str, person: Person, **fields: Any) -> str:
    """The token for a clinician: Dr. Weber, physician, unless the fields say otherwise."""
    facts = {"name": "Dr. Weber", "profession": "physician", "organisation": None, "unverified": False, **fields}
    return await invitations.invite_clinician(owner_url, person.email, **facts)


async def accept(database: Database, token: str, password: str = PASSWORD) -> None:
    await invitations.accept(database, token, password, datetime.now(UTC))


async def clinician(superuser: Connection, person: Person) -> dict[str, Any]:
    """What is stored about the clinician."""
    found = await superuser.fetchrow(
        "SELECT display_name, profession, o.name AS organisation, verified_at IS NOT NULL AS verified"
        " FROM users u JOIN clinicians c ON c.user_id = u.id LEFT JOIN organisations o ON o.id = c.organisation_id"
        " WHERE email = $1",
        person.email,
    )
    assert found is not None
    return dict(found)


async def test_a_clinician_is_what_the_operator_said_and_vouched_for(
    owner_url: str, superuser: Connection, clinic: str
) -> None:
    person = Person()
    await invite(owner_url, person, name="  Maria Sommer ", profession="physiotherapist", organisation=clinic)
    assert await clinician(superuser, person) == {
        "display_name": "Maria Sommer",
        "profession": "physiotherapist",
        "organisation": clinic,
        "verified": True,
    }


async def test_asking_again_changes_what_is_given_and_leaves_the_rest(
    owner_url: str, superuser: Connection, clinic: str
) -> None:
    person = Person()
    await invite(owner_url, person, organisation=clinic, unverified=True)
    await invite(owner_url, Person(email=person.email.upper()), name="Dr. Winter", profession="psychologist")
    stored = {"display_name": "Dr. Winter", "profession": "psychologist", "organisation": clinic, "verified": False}
    assert await clinician(superuser, person) == stored
    await invitations.verify_clinician(owner_url, person.email)
    assert (await clinician(superuser, person))["verified"]
    await invite(owner_url, person)
    assert (await clinician(superuser, person))["verified"]
    await invite(owner_url, person, unverified=True)
    assert not (await clinician(superuser, person))["verified"]


async def test_an_organisation_is_made_once(owner_url: str, clinic: str) -> None:
    again = [await invitations.add_organisation(owner_url, name) for name in (clinic, f" {clinic} ")]
    assert again[0] == again[1]


async def test_an_admin_keeps_the_name_that_was_given_once(owner_url: str, superuser: Connection) -> None:
    named = "SELECT display_name, role FROM users WHERE email = $1"
    for name, stored in ((None, "Administrator"), ("Olga", "Olga"), (None, "Olga")):
        await invitations.invite_admin(owner_url, "olga@example.org", name)
        assert tuple(await superuser.fetchrow(named, "olga@example.org") or ()) == (stored, "admin")


@pytest.mark.parametrize(
    ("fields", "sentence"),
    [
        ({"name": " "}, "A name has 1 to 120 characters, on one line."),
        ({"name": "Dr.\nWeber"}, "A name has 1 to 120 characters, on one line."),
        ({"name": "x" * 121}, "A name has 1 to 120 characters, on one line."),
        ({"profession": "wizard"}, "The profession is one of physician, nurse, physiotherapist, "),
        ({"organisation": "Nowhere"}, "There is no organisation of this name: "),
        ({"organisation": ""}, "A name has 1 to 120 characters, on one line."),
    ],
)
async def test_what_cannot_be_is_refused_in_a_sentence_and_makes_nothing(
    owner_url: str, superuser: Connection, fields: dict[str, Any], sentence: str
) -> None:
    person = Person()
    with pytest.raises(Refused, match=f"^{sentence}"):
        await invite(owner_url, person, **fields)
    assert not await superuser.fetchval("SELECT count(*) FROM users WHERE email = $1", person.email)


@pytest.mark.parametrize("email", ["", "weber", "weber@", "a@b@example.org"])
async def test_an_address_that_is_none_is_refused(owner_url: str, email: str) -> None:
    for asked in (invite(owner_url, Person(email=email)), invitations.verify_clinician(owner_url, email)):
        with pytest.raises(Refused, match=r"^This is no e-mail address\.$"):
            await asked


async def test_the_account_of_somebody_else_is_never_taken_over(
    owner_url: str, ada: Phone, superuser: Connection
) -> None:
    for asked in (invite(owner_url, ada.person), invitations.invite_admin(owner_url, ada.person.email, "Ada")):
        with pytest.raises(Refused, match=r"^This address has an account of another role already\.$"):
            await asked
    account = "SELECT role, display_name FROM users WHERE email = $1"
    assert tuple(await superuser.fetchrow(account, ada.person.email) or ()) == ("patient", "Ada")
    owned = "SELECT count(*) FROM invitations WHERE user_id = $1"
    assert not await superuser.fetchval(owned, UUID(ada.user_id))


async def test_only_a_clinician_is_verified(owner_url: str, ada: Phone) -> None:
    for verb in (invitations.verify_clinician, invitations.unverify_clinician):
        for person in (ada.person, Person()):
            with pytest.raises(Refused, match=r"^There is no clinician with this address\.$"):
                await verb(owner_url, person.email)


async def test_whom_nobody_vouches_for_sees_no_health_data_from_the_next_request_on(
    ada: Phone, weber: Phone, owner_url: str, superuser: Connection
) -> None:
    logged = (await ada.log()).json()["id"]
    await grant(superuser, ada, weber)
    reader = lent(weber, ada)
    assert ids(await reader.get("/timeline")) == [logged]
    await invitations.unverify_clinician(owner_url, weber.person.email)
    assert told(await reader.get("/timeline")) == (404, "not-found")
    await invitations.verify_clinician(owner_url, weber.person.email)
    assert ids(await reader.get("/timeline")) == [logged]


async def test_nothing_is_written_any_more_once_vouching_has_ended(
    ada: Phone, weber: Phone, owner_url: str, superuser: Connection
) -> None:
    await grant(superuser, ada, weber)
    async with superuser.transaction():  # as somebody who writes, and has been let in
        await superuser.execute("SELECT FROM patient_clocks WHERE patient_id = $1 FOR UPDATE", UUID(ada.patient_id))
        ending = asyncio.create_task(invitations.unverify_clinician(owner_url, weber.person.email))
        await until_locked_out(superuser)
        assert not ending.done()
    await ending
    assert told(await lent(weber, ada).log()) == (404, "not-found")


async def test_a_link_is_good_for_a_week(database: Database, owner_url: str) -> None:
    token = await invite(owner_url, Person())
    for late in (invitations.LIFE, timedelta(days=365)):
        with pytest.raises(NotFound):
            await invitations.accept(database, token, PASSWORD, datetime.now(UTC) + late)
    await invitations.accept(database, token, PASSWORD, datetime.now(UTC) + timedelta(days=6, hours=23))


async def test_of_links_made_at_once_one_is_good(database: Database, owner_url: str) -> None:
    person = Person()
    tokens = await asyncio.gather(*(invite(owner_url, person) for _ in range(5)))
    followed = await asyncio.gather(*(accept(database, token) for token in tokens), return_exceptions=True)
    assert sorted(type(one).__name__ for one in followed) == ["NoneType"] + ["NotFound"] * 4


async def test_a_link_that_is_replaced_while_it_is_followed_is_over(
    database: Database, owner_url: str, superuser: Connection
) -> None:
    person = Person()
    old = await invite(owner_url, person)
    async with superuser.transaction():  # holds up both, in this order
        await superuser.execute("SELECT FROM users WHERE email = $1 FOR UPDATE", person.email)
        replacing = asyncio.create_task(invite(owner_url, person))
        await until_locked_out(superuser)
        following = asyncio.create_task(accept(database, old))
        await until_locked_out(superuser, 2)
    new = await replacing
    with pytest.raises(NotFound):
        await following
    await accept(database, new)


async def test_a_token_is_nowhere_in_the_database(database: Database, owner_url: str, superuser: Connection) -> None:
    used, unused = Person(), Person()
    tokens = [await invite(owner_url, used), await invite(owner_url, unused)]
    await accept(database, tokens[0])
    tables = await superuser.fetch("SELECT tablename FROM pg_tables WHERE schemaname = 'public'")
    stored = [await superuser.fetchval(f'SELECT string_agg(t::text, chr(10)) FROM "{name}" t') for [name] in tables]
    everything = "\n".join(filter(None, stored))
    assert used.email in everything
    for token in tokens:
        assert token not in everything
        assert token.encode().hex() not in everything


async def test_the_serving_role_is_told_that_it_may_not_invite(settings: Settings) -> None:
    assert settings.database_url is not None
    with pytest.raises(Refused, match=r"^This takes the owner's rights: set DIARY_MIGRATION_DATABASE_URL"):
        await invitations.invite_admin(settings.database_url.get_secret_value(), Person().email, None)


async def test_a_plain_member_of_the_owners_may_invite(
    server_url: str, database_name: str, database: Database, superuser: Connection
) -> None:
    role = f"operator_{uuid4().hex[:12]}"
    await superuser.execute(f"CREATE ROLE {role} LOGIN IN ROLE diary_owner")
    try:
        url = url_of(server_url, role, database_name)
        await accept(database, await invite(url, Person()))
    finally:
        await superuser.execute(f"DROP ROLE {role}")


async def test_a_database_that_is_not_migrated_is_said_plainly(server_url: str) -> None:
    name = f"diary_empty_{uuid4().hex[:12]}"
    await create_database(server_url, name)
    with pytest.raises(Refused, match=r"^The database is not migrated yet"):
        await invitations.invite_admin(url_of(server_url, "postgres", name), Person().email, None)


async def test_another_failure_of_the_database_is_no_refusal(owner_url: str) -> None:
    nowhere = owner_url.replace("/diary_", "/nowhere_")
    with pytest.raises(NotConnected, match="no database of this name"):
        await invitations.add_organisation(nowhere, "Clinic")
