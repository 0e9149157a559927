"""What SQL makes of plans: the changes that follow from them, what stands beside their events, and what is counted."""

import json
from collections.abc import AsyncIterator
from datetime import UTC, date, datetime, timedelta
from itertools import product
from typing import Any, TypeAlias, get_args
from uuid import UUID

import asyncpg
import pytest
from pydantic import TypeAdapter

from app import vocabularies
from app.config import Settings
from app.domain.due import margin
from app.domain.treatments import flags
from app.postgres.connections import driver_url
from app.schemas.slots import plan_of
from app.schemas.timeline import TreatmentChangeOut
from app.schemas.treatment_events import EventStatus
from app.schemas.treatments import TreatmentIn
from tests.people import SESSION, Phone, dose, entry, grant, profile, site, treatment
from tests.published_schedules import PUBLISHED, Published

pytestmark = pytest.mark.anyio

Connection: TypeAlias = "asyncpg.Connection[asyncpg.Record]"

CATEGORIES = vocabularies.load("treatment_categories").ordered_codes
STATUSES = get_args(get_args(EventStatus.__value__)[0])
CHANGES = TypeAdapter(list[TreatmentChangeOut])
MARCH, NOON, APRIL, MAY = (
    "2026-03-01T00:00:00+01:00",
    "2026-03-28T12:00:00+01:00",
    "2026-04-13T00:00:00+02:00",
    "2026-05-01T00:00:00+02:00",
)


def regimen(valid_from: str = MARCH, valid_to: str | None = None, **fields: Any) -> dict[str, Any]:
    """A regimen as it is stored."""
    until = {} if valid_to is None else {"valid_to": valid_to}
    return {"valid_from": valid_from, **until, "time_zone": "Europe/Berlin", "schedule": {"type": "prn"}, **fields}


async def agreed(phone: Phone, **fields: Any) -> dict[str, Any]:
    """What was sent to store a new treatment."""
    sent = treatment(**fields)
    answer = await phone.post("/treatments", sent)
    assert answer.status_code == 201, answer.text
    return sent


async def logged(phone: Phone, sent: dict[str, Any]) -> dict[str, Any]:
    """An event or entry, as sent to store it."""
    place = "/treatment-events" if "treatment_id" in sent else "/entries"
    answer = await phone.post(place, sent)
    assert answer.status_code == 201, answer.text
    return sent


async def changes(superuser: Connection, phone: Phone) -> list[dict[str, Any]]:
    """The changes of a diary's plans as they are answered, in the order of their instants."""
    rows = await superuser.fetch(
        "SELECT * FROM treatment_changes($1) ORDER BY occurred_at, document ->> 'change'", UUID(phone.patient_id)
    )
    documents = [json.loads(row["document"]) for row in rows]
    CHANGES.validate_json(json.dumps(documents))
    for row, document in zip(rows, documents, strict=True):
        assert (str(row["id"]), str(row["treatment_id"])) == (document["id"], document["treatment_id"])
        assert row["occurred_at"] == datetime.fromisoformat(document["occurred_at"])
        assert row["local_date"].isoformat() == document["local_date"] == document["occurred_at"][:10]
    return documents


@pytest.fixture
async def served(settings: Settings, ada: Phone) -> AsyncIterator[Connection]:
    """A connection of the serving role, let in to Ada's diary."""
    assert settings.database_url is not None
    connection = await asyncpg.connect(driver_url(settings.database_url.get_secret_value()))
    async with connection.transaction():
        visit = (UUID(ada.session_id), UUID(ada.patient_id))
        opened = f"SELECT open_diary_v1({SESSION}, $2, NULL, 'test.open', NULL, NULL)"
        assert await connection.fetchval(opened, *visit) == "ok"
        yield connection
    await connection.close()


async def test_an_event_is_flagged_as_the_domain_says(superuser: Connection) -> None:
    every = list(product([*CATEGORIES, None], STATUSES))
    assert len(every) == 11 * 8
    for category, status in every:
        flagged = await superuser.fetchval("SELECT event_flags($1, $2)", category, status)
        assert tuple(json.loads(flagged)) == flags(category, status), (category, status)


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"regimens": [regimen()]}, [("started", MARCH)]),
        ({"regimens": [regimen(MARCH, APRIL)]}, [("started", MARCH), ("ended", APRIL)]),
        ({"regimens": [regimen(), regimen(NOON)]}, [("started", MARCH), ("regimen_changed", NOON)]),
        ({"regimens": [regimen(MARCH, NOON), regimen(NOON)]}, [("started", MARCH), ("regimen_changed", NOON)]),
        (
            {"regimens": [regimen(MARCH, "2026-03-28T11:00:00Z"), regimen(NOON)]},
            [("started", MARCH), ("regimen_changed", NOON)],
        ),
        (
            {"regimens": [regimen(MARCH, NOON), regimen(APRIL, MAY)]},
            [("started", MARCH), ("ended", NOON), ("started", APRIL), ("ended", MAY)],
        ),
        (
            {"pauses": [{"from": NOON, "to": APRIL}, {"from": APRIL, "to": MAY}]},
            [("started", MARCH), ("paused", NOON), ("paused", APRIL), ("resumed", APRIL), ("resumed", MAY)],
        ),
        ({"status": "on_hold", "pauses": [{"from": NOON}]}, [("started", MARCH), ("paused", NOON)]),
        ({"status": "stopped", "regimens": [regimen(MARCH, MAY)]}, [("started", MARCH), ("ended", MAY)]),
        ({"status": "draft", "pauses": [{"from": NOON}], "regimens": [regimen(MARCH, MAY)]}, []),
    ],
)
async def test_changes_follow_from_the_plan(
    ada: Phone, superuser: Connection, fields: dict[str, Any], expected: list[tuple[str, str]]
) -> None:
    await agreed(ada, **fields)
    found = await changes(superuser, ada)
    assert [(change["change"], change["occurred_at"]) for change in found] == expected


async def test_a_change_shows_what_applied_before_and_what_applies_from_then_on(
    ada: Phone, superuser: Connection
) -> None:
    half, whole = ({"value": value, "unit": "{tablet}"} for value in (0.5, 1))
    plan = [
        regimen(dose=half),
        regimen(NOON, APRIL, dose=whole, time_zone="America/New_York"),
        regimen(MAY, dose=half),
    ]
    sent = await agreed(ada, name="Drops", regimens=plan, pauses=[{"from": "2026-03-28T05:00:00+13:00"}])
    found = await changes(superuser, ada)
    assert [(c["change"], c["time_zone"], c.get("regimen"), c.get("previous")) for c in found] == [
        ("started", "Europe/Berlin", plan[0], None),
        ("paused", "Europe/Berlin", None, None),
        ("regimen_changed", "America/New_York", plan[1], plan[0]),
        ("ended", "America/New_York", None, plan[1]),
        ("started", "Europe/Berlin", plan[2], None),
    ]
    assert {(c["treatment_id"], c["treatment_name"], c["patient_id"]) for c in found} == {
        (sent["id"], "Drops", ada.patient_id)
    }
    assert found[1]["local_date"] == "2026-03-28"  # by the instant's own offset


async def test_a_change_keeps_its_id_while_it_stays_the_same(ada: Phone, superuser: Connection) -> None:
    sent = await agreed(ada, pauses=[{"from": NOON, "to": APRIL}])
    before = [change["id"] for change in await changes(superuser, ada)]
    path = f"/treatments/{sent['id']}"
    await ada.patch(path, {"name": "Renamed", "category": "otc_medication"})
    await ada.patch(path, {"regimens": [regimen(schedule={"type": "target", "count": 1, "per": "day"})]}, 2)
    assert [change["id"] for change in await changes(superuser, ada)] == before
    await ada.patch(path, {"pauses": [{"from": NOON, "to": MAY}]}, 3)
    moved = [change["id"] for change in await changes(superuser, ada)]
    assert [one == other for one, other in zip(before, moved, strict=True)] == [True, True, False]


async def test_every_change_has_an_id_of_its_own(ada: Phone, bob: Phone, superuser: Connection) -> None:
    plan = {
        "regimens": [regimen(MARCH, NOON), regimen(NOON, APRIL), regimen(MAY)],
        "pauses": [{"from": MARCH, "to": NOON}, {"from": NOON, "to": APRIL}, {"from": APRIL, "to": MAY}],
        "status": "on_hold",
    }
    sent = [await agreed(ada, **plan), await agreed(ada, **plan), await agreed(bob, **plan)]
    found = [UUID(change["id"]) for phone in (ada, bob) for change in await changes(superuser, phone)]
    assert len(set(found)) == len(found) == 3 * 10
    assert {change.version for change in found} == {4}
    assert {change.variant for change in found} == {UUID(sent[0]["id"]).variant}


async def test_a_deleted_plan_has_no_changes(ada: Phone, superuser: Connection) -> None:
    sent = await agreed(ada)
    assert len(await changes(superuser, ada)) == 1
    await ada.delete(f"/treatments/{sent['id']}")
    assert await changes(superuser, ada) == []


async def test_the_changes_of_one_diary_are_not_those_of_another(ada: Phone, bob: Phone, superuser: Connection) -> None:
    sent = await agreed(ada)
    await agreed(bob, id=sent["id"])
    assert [change["patient_id"] for change in await changes(superuser, ada)] == [ada.patient_id]


async def test_events_are_rows_beside_their_treatment(ada: Phone, bob: Phone, served: Connection) -> None:
    amount = {"value": 1.5, "unit": "{tablet}"}
    plan = treatment(name="Ibuprofen")
    fields = {"scheduled_for": NOON, "amount": amount, "pain_before": 7, "pain_after": 3, "relief_rating": "good"}
    noted = await logged(ada, dose(plan["id"], "2026-03-28T23:30:00-10:00", **fields))
    await logged(bob, dose(plan["id"]))
    row = await served.fetchrow("SELECT * FROM treatment_events")
    assert row is not None
    assert (row["treatment_name"], row["category"], str(row["treatment_id"])) == (None, None, plan["id"])
    await agreed(ada, **plan)
    row = await served.fetchrow("SELECT * FROM treatment_events")
    assert row is not None
    assert {name: str(value) for name, value in row.items() if value is not None} == {
        "patient_id": ada.patient_id,
        "treatment_event_id": noted["id"],
        "version": "1",
        "occurred_at": "2026-03-29 09:30:00+00:00",
        "utc_offset": "-600",
        "time_zone": "Europe/Berlin",
        "local_date": "2026-03-28",
        "performer": "self",
        "treatment_id": plan["id"],
        "treatment_name": "Ibuprofen",
        "category": "prescription_medication",
        "scheduled_for": "2026-03-28 11:00:00+00:00",
        "status": "taken",
        "amount": "1.5",
        "unit": "{tablet}",
        "relief_rating": "good",
        "pain_before": "7",
        "pain_after": "3",
        "occurred_precision": "minute",
    }
    await ada.delete(f"/treatments/{plan['id']}")
    assert await served.fetchval("SELECT treatment_name FROM treatment_events") is None
    await ada.delete(f"/treatment-events/{noted['id']}")
    assert await served.fetchval("SELECT count(*) FROM treatment_events") == 0


async def course(superuser: Connection, phone: Phone, limit: int = 100) -> dict[str, list[Any]]:
    """What adherence on 1 to 7 June 2026 is computed from."""
    row = await superuser.fetchrow(
        "SELECT * FROM course($1, $2, $3, $4)", UUID(phone.patient_id), date(2026, 6, 1), date(2026, 6, 7), limit
    )
    assert row is not None
    return {name: json.loads(value) for name, value in row.items()}


@pytest.mark.parametrize(
    ("plan", "reach"),
    [
        (regimen(schedule={"type": "prn", "min_interval_minutes": 10_080}), 9),
        (regimen(schedule={"type": "scheduled", "times": ["00:00"], "days_of_week": [1]}), 8),
        (regimen(schedule={"type": "scheduled", "times": ["00:00"], "every_n_days": 30}), 31),
        (regimen(schedule={"type": "target", "count": 1, "per": "month"}), 32),
        (regimen(schedule={"type": "elapsed", "every_minutes": 20 * 1440 + 1}), 22),
        *(
            (regimen(schedule={"type": "calendar", "days": days, "at": [{"time": "00:00"}]}), reach)
            for days, reach in (
                ({"type": "daily", "every_n_days": 30}, 31),
                ({"type": "weekly", "every_n_weeks": 2, "days_of_week": [1]}, 15),
                ({"type": "monthly", "days_of_month": [31]}, 63),
                ({"type": "cycle", "days_on": 21, "days_off": 17}, 19),
            )
        ),
    ],
)
async def test_figures_get_the_events_around_their_days_as_far_as_the_plan_reaches(
    ada: Phone, superuser: Connection, plan: dict[str, Any], reach: int
) -> None:
    sent = await agreed(ada, regimens=[plan])
    first, last = date(2026, 6, 1) - timedelta(days=reach), date(2026, 6, 7) + timedelta(days=reach)
    assert margin(plan_of(TreatmentIn.model_validate(sent))) == timedelta(days=reach)
    near = [
        await logged(ada, dose(sent["id"], f"{first}T00:00:00+14:00")),
        await logged(ada, dose(sent["id"], f"{last}T23:59:59-12:00")),
    ]
    for day in (first - timedelta(days=3), last + timedelta(days=3)):
        await logged(ada, dose(sent["id"], f"{day}T12:00:00Z"))
    await ada.delete(f"/treatment-events/{(await logged(ada, dose(sent['id'], f'{first}T12:00:00Z')))['id']}")
    assert {event["id"] for event in (await course(superuser, ada))["events"]} == {event["id"] for event in near}


@pytest.mark.parametrize("published", PUBLISHED, ids=lambda one: one.words)
async def test_sql_and_arithmetic_agree_on_how_far_a_plan_reaches(superuser: Connection, published: Published) -> None:
    sent = treatment(regimens=published.regimens)
    reaches = [
        await superuser.fetchval("SELECT days_between_doses($1)", json.dumps(one["schedule"]))
        for one in published.regimens
    ]
    assert timedelta(days=max(7, *reaches) + 1) >= margin(plan_of(TreatmentIn.model_validate(sent)))


async def test_each_line_has_changes_of_its_own(ada: Phone, superuser: Connection) -> None:
    plan = [regimen(MARCH, APRIL), regimen(MARCH, line="weekend"), regimen(NOON, APRIL, line="weekend")]
    await agreed(ada, regimens=plan)
    found = await changes(superuser, ada)
    CHANGES.validate_python(found)
    told = [(one["change"], one["occurred_at"], (one.get("regimen") or one["previous"]).get("line")) for one in found]
    assert sorted(told, key=str) == [
        ("ended", APRIL, "weekend"),
        ("ended", APRIL, None),
        ("regimen_changed", NOON, "weekend"),
        ("started", MARCH, "weekend"),
        ("started", MARCH, None),
    ]
    assert len({one["id"] for one in found}) == len(found)


@pytest.mark.parametrize(
    ("plan", "ends"),
    [
        ([regimen(MARCH, APRIL)], APRIL),
        ([regimen(MARCH)], None),
        ([regimen(MARCH, MAY, line="a"), regimen(MARCH, APRIL)], MAY),
        ([regimen(MARCH, MAY, line="a"), regimen(MARCH)], None),
        ([regimen(MARCH, line="a"), regimen(MARCH, APRIL), regimen(NOON, APRIL, line="a")], APRIL),
    ],
)
async def test_a_plan_ends_with_the_last_of_its_lines(
    ada: Phone, superuser: Connection, plan: list[dict[str, Any]], ends: str | None
) -> None:
    sent = await agreed(ada, regimens=plan)
    row = await superuser.fetchrow(
        "SELECT valid_to::text AS kept, ends_of_plan(document)::text AS told FROM records WHERE id = $1",
        UUID(sent["id"]),
    )
    expected = await superuser.fetchval("SELECT coalesce($1::text::timestamptz, 'infinity')::text", ends)
    assert row is not None
    assert row["kept"] == row["told"] == expected


async def test_figures_get_one_more_than_they_can_take_at_most(ada: Phone, superuser: Connection) -> None:
    plans = [await agreed(ada) for _ in range(4)]
    doses = [dose(plans[0]["id"], f"2026-06-0{day}T08:00:00+02:00") for day in range(1, 6)]
    for one in doses:
        await logged(ada, one)
    await ada.delete(f"/treatments/{plans.pop()['id']}")
    found = await course(superuser, ada)
    assert {plan["id"] for plan in found["treatments"]} == {plan["id"] for plan in plans}
    assert {event["id"] for event in found["events"]} == {one["id"] for one in doses}
    limited = await course(superuser, ada, 1)
    assert [len(limited["treatments"]), len(limited["events"])] == [2, 2]


async def test_readings_are_the_patients_own_scores_of_the_moment_for_what_is_taken_as_needed(
    ada: Phone, superuser: Connection
) -> None:
    scheduled = await agreed(ada, regimens=[regimen(schedule={"type": "scheduled", "times": ["08:00"]})])
    worst = {"measure": "worst", "scale": "nrs_0_10", "value": 9}
    length = {"measure": "now", "scale": "vas_0_100_mm", "value": 80}
    sites = [site(3, scores=[*site(3)["scores"], worst, length]), site(5, "foot_front_left")]
    await logged(ada, entry(occurred_at="2026-06-03T08:00:00Z", sites=sites))
    await logged(ada, entry(occurred_at="2026-06-02T08:00:00Z", sites=[site(7)], entry_mode="momentary"))
    for fields in (
        {"entry_mode": "recall"},
        {"entry_mode": "backfill"},
        {"performer": "caregiver"},
        {"occurred_at": "2026-05-01T08:00:00Z"},
        {"occurred_at": "2026-07-01T08:00:00Z"},
    ):
        await logged(ada, entry(**{"occurred_at": "2026-06-04T08:00:00Z", **fields}))
    await ada.delete(f"/entries/{(await logged(ada, entry(occurred_at='2026-06-04T08:00:00Z')))['id']}")
    assert (await course(superuser, ada))["readings"] == []
    await ada.patch(f"/treatments/{scheduled['id']}", {"regimens": [regimen()]})
    readings = (await course(superuser, ada))["readings"]
    assert [(datetime.fromisoformat(at), value) for at, value in readings] == [
        (datetime(2026, 6, 2, 8, tzinfo=UTC), 7),
        (datetime(2026, 6, 3, 8, tzinfo=UTC), 5),
    ]


async def test_a_score_on_a_scale_for_others_is_no_reading(ada: Phone, superuser: Connection) -> None:
    await agreed(ada)
    await ada.post("/profile", profile(birth_date="2024-05-17"))
    await logged(ada, entry(occurred_at="2026-06-04T08:00:00Z"))
    assert (await course(superuser, ada))["readings"] == []


async def test_figures_are_computed_from_what_lies_in_the_window_of_the_consent(
    ada: Phone, bob: Phone, superuser: Connection
) -> None:
    over, lasting = await agreed(ada, regimens=[regimen(MARCH, MAY)]), await agreed(ada)
    old, new = [await logged(ada, dose(lasting["id"], f"2026-06-0{day}T08:00:00+02:00")) for day in (3, 5)]
    since = datetime(2026, 6, 4, tzinfo=UTC)
    await grant(superuser, ada, bob, scopes=["adherence:read"], data_from=since)

    async def asked(phone: Phone, scope: str = "adherence:read") -> asyncpg.Record:
        row = await superuser.fetchrow(
            f"SELECT * FROM read_course_v1({SESSION}, $2, $3, 'test', '2026-06-01', '2026-06-07', 100, NULL, NULL)",
            UUID(phone.session_id),
            UUID(ada.patient_id),
            scope,
        )
        assert row is not None
        return row

    for phone, data_from, plans, events in (
        (ada, None, {over["id"], lasting["id"]}, {old["id"], new["id"]}),
        (bob, since, {lasting["id"]}, {new["id"]}),
    ):
        found = await asked(phone)
        assert (found["outcome"], found["data_from"], found["time_zone"]) == ("ok", data_from, "Europe/Berlin")
        assert {plan["id"] for plan in json.loads(found["treatments"])} == plans
        assert {event["id"] for event in json.loads(found["events"])} == events
    refused = await asked(bob, "treatments:read")
    assert [refused[name] for name in ("outcome", "treatments", "events")] == ["insufficient_scope", None, None]
