"""Status and dates of a plan never contradict each other, whichever way a change comes in."""

from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import pytest

from app.domain.moments import render_instant
from tests.answers import pointers, told
from tests.people import Phone, treatment, without_id

pytestmark = pytest.mark.anyio

Plan = dict[str, Any]
WAYS = ("put", "patch", "push")


def days(number: float) -> str:
    """So many days from now."""
    return render_instant(datetime.now(UTC) + timedelta(days=number))


def course(first: float = -3, last: float | None = 7, **fields: Any) -> Plan:
    """A plan from one day to another, both counted from now; a course of ten days that is in its third by default."""
    plan = treatment("08:00", **{"recorded_at": days(0), **fields})
    [regimen] = plan["regimens"]
    ends = {} if last is None else {"valid_to": days(last)}
    return plan | {"regimens": [regimen | {"valid_from": days(first)} | ends]}


async def changed(phone: Phone, plan: Plan, way: str, **fields: Any) -> list[str]:
    """The places at which this change of the plan, at its first version, is refused; none where it is taken."""
    if way == "push":
        return await pushed(phone, (plan | fields, 1))
    path, body = f"/treatments/{plan['id']}", without_id(plan) | fields
    answer = await (phone.put(path, body) if way == "put" else phone.patch(path, fields))
    if answer.status_code == 200:
        return []
    assert told(answer) == (422, "invalid")
    return pointers(answer)


async def pushed(phone: Phone, *versions: tuple[Plan, int]) -> list[str]:
    """The same of the last of these versions, each over the version beside it, pushed together."""
    mutations = [
        {
            "mutation_id": str(uuid4()),
            "op": "put",
            "kind": "treatment",
            "id": plan["id"],
            "base_version": base,
            "data": without_id(plan),
        }
        for plan, base in versions
    ]
    body = {"device_id": "phone", "client_now": days(0), "mutations": mutations}
    result = (await phone.post("/sync/push", body)).json()["results"][-1]
    assert (result["status"] == "invalid") == ("errors" in result)
    item = f"/mutations/{len(versions) - 1}/data"
    return [error["pointer"].removeprefix(item) for error in result.get("errors", [])]


async def added(phone: Phone, plan: Plan) -> Plan:
    answer = await phone.post("/treatments", plan)
    assert answer.status_code == 201, answer.text
    return plan


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("status", ["stopped", "completed"])
async def test_a_course_that_goes_on_is_not_stopped_until_it_ends_now(ada: Phone, way: str, status: str) -> None:
    plan = await added(ada, course())
    assert await changed(ada, plan, way, status=status) == ["/regimens/0/valid_to"]
    ended = [plan["regimens"][0] | {"valid_to": days(0)}]
    assert await changed(ada, plan, way, status=status, regimens=ended) == []


@pytest.mark.parametrize("way", WAYS)
async def test_a_plan_that_has_ended_is_not_left_active(ada: Phone, way: str) -> None:
    plan = await added(ada, course())
    ended = [plan["regimens"][0] | {"valid_to": days(-1)}]
    assert await changed(ada, plan, way, regimens=ended) == ["/status"]
    assert await changed(ada, plan, way, regimens=ended, status="completed") == []


@pytest.mark.parametrize("way", WAYS)
async def test_a_plan_is_on_hold_while_a_pause_holds(ada: Phone, way: str) -> None:
    plan = await added(ada, course(last=None))
    assert await changed(ada, plan, way, status="on_hold", pauses=[{"from": days(2)}]) == ["/pauses"]
    assert await changed(ada, plan, way, status="on_hold", pauses=[{"from": days(-2), "to": days(-1)}]) == ["/pauses"]
    assert await changed(ada, plan, way, pauses=[{"from": days(-1)}]) == ["/status"]
    assert await changed(ada, plan, way, pauses=[{"from": days(-2), "to": days(-1)}, {"from": days(2)}]) == []


@pytest.mark.parametrize("way", WAYS)
async def test_a_pause_may_have_its_end_already(ada: Phone, way: str) -> None:
    plan = await added(ada, course(last=None))
    assert await changed(ada, plan, way, status="on_hold", pauses=[{"from": days(-1), "to": days(5)}]) == []


@pytest.mark.parametrize("way", WAYS)
async def test_a_plan_resumes_when_its_pause_has_ended(ada: Phone, way: str) -> None:
    plan = await added(ada, course(last=None, status="on_hold", pauses=[{"from": days(-1)}]))
    assert await changed(ada, plan, way, status="active") == ["/status"]
    assert await changed(ada, plan, way, status="active", pauses=[{"from": days(-1), "to": days(0)}]) == []


@pytest.mark.parametrize("way", WAYS)
async def test_what_a_change_leaves_as_it_was_is_not_judged(ada: Phone, way: str) -> None:
    plan = await added(ada, course(-30, -20, recorded_at=days(-29)))  # nobody said how it ended
    assert await changed(ada, plan, way, note="It helped.") == []


async def test_a_phone_whose_clock_is_a_little_ahead_may_stop_now(ada: Phone) -> None:
    plan = await added(ada, course())
    in_ten_minutes = [plan["regimens"][0] | {"valid_to": days(10 / 1440)}]
    assert await changed(ada, plan, "patch", status="stopped", regimens=in_ten_minutes) == []


async def test_a_new_plan_contradicts_itself_as_little(ada: Phone) -> None:
    for plan, place in (
        (course(status="stopped"), "/regimens/0/valid_to"),
        (course(status="on_hold", pauses=[{"from": days(1)}]), "/pauses"),
        (course(-30, -20, recorded_at=None), "/status"),
        (course(-30, -20, recorded_at=days(-19)), "/status"),
        (course(-30, -20, status="on_hold", pauses=[{"from": days(-22)}]), "/status"),
        (course(pauses=[{"from": days(-1)}]), "/status"),
    ):
        refused = await ada.post("/treatments", plan)
        assert (told(refused), pointers(refused)) == ((422, "invalid"), [place])
        assert await pushed(ada, (plan, 0)) == [place]
    for status in ("completed", "stopped", "draft"):
        assert await pushed(ada, (course(-30, -20, status=status), 0)) == []


async def test_a_new_plan_is_judged_as_of_when_an_offline_phone_saved_it(ada: Phone) -> None:
    saved = course(-30, -20, recorded_at=days(-29))
    assert await pushed(ada, (saved, 0)) == []
    await added(ada, course(-30, -20, recorded_at=days(-29)))
    ahead = course(-1, 0.001, recorded_at=days(1))
    assert await pushed(ada, (ahead, 0)) == []


async def test_a_new_plan_that_is_sent_again_after_its_end_is_there(ada: Phone) -> None:
    saved = await added(ada, course(-30, -20, recorded_at=days(-29)))
    assert (
        await ada.post("/treatments", saved | {"recorded_at": None})
    ).status_code == 409  # it is there, so the write path tells
    assert (await ada.post("/treatments", saved)).status_code == 200
    assert await pushed(ada, (saved, 0)) == []


async def test_a_plan_that_is_made_and_stopped_in_one_push_is_judged_as_well(ada: Phone) -> None:
    plan = course()
    assert await pushed(ada, (plan, 0), (plan | {"status": "stopped"}, 1)) == ["/regimens/0/valid_to"]
    later = course()
    renamed, stopped = later | {"name": "Another"}, later | {"status": "stopped"}
    assert await pushed(ada, (later, 0), (renamed, 1), (stopped, 2)) == ["/regimens/0/valid_to"]


async def test_a_stop_that_is_sent_again_is_taken_again(ada: Phone) -> None:
    plan = await added(ada, course(-30, -20, recorded_at=days(-29)))
    stopped = plan | {"status": "stopped"}
    body = {
        "device_id": "phone",
        "client_now": days(0),
        "mutations": [
            {
                "mutation_id": str(uuid4()),
                "op": "put",
                "kind": "treatment",
                "id": plan["id"],
                "base_version": 1,
                "data": without_id(stopped),
            }
        ],
    }
    statuses = [(await ada.post("/sync/push", body)).json()["results"][0]["status"] for _ in range(2)]
    assert statuses == ["updated", "unchanged"]


@pytest.mark.parametrize("way", WAYS)
async def test_stop_ends_every_line(ada: Phone, way: str) -> None:
    plan = course(last=None)
    [regimen] = plan["regimens"]
    await added(ada, plan | {"regimens": [regimen, regimen | {"line": "weekend"}]})
    ended, goes_on = regimen | {"valid_to": days(-1)}, regimen | {"line": "weekend", "valid_to": days(7)}
    assert await changed(ada, plan, way, status="stopped", regimens=[ended, goes_on]) == ["/regimens/1/valid_to"]
    assert await changed(ada, plan, way, status="stopped", regimens=[goes_on, ended]) == ["/regimens/0/valid_to"]
    over = goes_on | {"valid_to": days(-1)}
    assert await changed(ada, plan, way, status="active", regimens=[ended, over]) == ["/status"]
    assert await changed(ada, plan, way, status="stopped", regimens=[ended, over]) == []
