"""Every operation's answer is what the OpenAPI document says of it, and its instants have one form."""

import json
import re
from collections.abc import Awaitable, Callable, Iterator
from typing import Any, TypeAlias
from uuid import uuid4

import asyncpg
import httpx
import jsonschema_rs
import pytest
from fastapi import FastAPI

from app.schemas.kinds import KINDS
from tests.access_rules import operations_of
from tests.people import Person, Phone, dose, lent, make_clinician, profile, redeem, share, treatment
from tests.routers.test_sync import delete, push, put

pytestmark = pytest.mark.anyio

Connection: TypeAlias = "asyncpg.Connection[asyncpg.Record]"

INSTANT = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(Z|[+-]\d\d:\d\d)")
DAYS = {"from": "2026-03-01", "to": "2026-03-31"}
EMPTY = {"activate", "revoke_session", "revoke_other_sessions", "revoke_grant", "read_metrics"}
EMPTY |= {name for kind in KINDS for verb, name in operations_of(kind).items() if verb == "delete"}


async def answers(ada: Phone, clinician: Phone) -> dict[str, list[httpx.Response]]:
    """What each operation answers, once or more, of a diary in which there is something of everything."""
    http, token = ada.http, ada.tokens["refresh_token"]
    found: dict[str, list[httpx.Response]] = {
        "register": [await Person().register(http)],
        "sign_in": [await ada.person.sign_in(http, device_name="tablet"), await ada.person.sign_in(http)],
        "refresh_tokens": [await http.post("/v1/auth/refresh", json={"refresh_token": token})],
    }
    plan, full = treatment("08:00"), {kind.name: dict(kind.examples[-1]) for kind in KINDS}
    full["treatment"] |= {"authored_by": "patient"}
    full["treatment"].pop("acknowledged_at", None)
    for kind in KINDS:
        names, path = operations_of(kind), f"/{kind.path}"
        first = await ada.post(path, full[kind.name])
        assert first.status_code == 201, first.text
        place = path if kind.holds == "singleton" else f"{path}/{first.json()['id']}"
        found[names["create"]] = [first, await ada.post(path, full[kind.name])]
        found[names["revise"]] = [await ada.patch(place, {"time_zone": "Europe/Paris"})]
        fields = {name: value for name, value in full[kind.name].items() if name != "id"}
        found[names["replace"]] = [await ada.put(place, fields, version=2)]
        found[names["read"]] = [await ada.get(place)]
        found[names["list_versions"]] = [await ada.get(f"{place}/versions"), await ada.get(f"{place}/versions?limit=1")]
        if "undelete" in names:
            await ada.delete(place, version=3)
            back = f"{ada.diary}{place}/undelete"
            found[names["undelete"]] = [await http.post(back, headers={"If-Match": '"4"'})]
        if "list" in names:
            found[names["list"]] = [await ada.get(path), await ada.get(path, params={"limit": 1})]
    await ada.post("/treatments", plan)
    given = dose(plan["id"])
    await ada.post("/treatment-events", given)
    smallest = {kind.name: dict(kind.examples[0]) | {"id": str(uuid4())} for kind in KINDS}
    gone = put("entry", smallest["entry"])
    pushes = [gone, put("profile", profile(id=ada.patient_id)), put("entry", smallest["entry"] | {"mood": 99})]
    found["push_changes"] = [await push(ada, *pushes), await push(ada, delete("entry", gone["id"], 1), epoch=None)]
    found["pull_changes"] = [await ada.get("/sync/pull"), await ada.get("/sync/pull", params={"limit": "1"})]
    compared = {"records": [{"id": given["id"], "version": 7}, {"id": str(uuid4()), "version": 1}]}
    found["compare_diaries"] = [await ada.post("/sync/digest", compared)]
    codes = [await share(ada, data_from="2026-01-01T00:00:00.123456+01:00"), await share(ada)]
    pending = await redeem(clinician, codes[0].json()["code"])
    grants = f"/grants/{pending.json()['id']}"
    found |= {
        "create_share_code": codes,
        "redeem_share_code": [pending],
        "confirm_grant": [await ada.post(f"{grants}/confirm", {})],
        "narrow_grant": [await ada.patch(grants, {"scopes": ["entries:read"]})],
        "list_grants": [await ada.get("/grants")],
    }
    reader = lent(clinician, ada)
    await reader.get("/timeline")
    await reader.get("/profile")
    asked: dict[Callable[..., Awaitable[httpx.Response]], dict[str, str]] = {
        ada.get: {
            "read_patient": "",
            "read_slots": f"/treatments/{plan['id']}/slots",
            "read_adherence": "/adherence",
            "read_timeline": "/timeline",
            "list_accesses": "/access-log",
        },
        http.get: {
            "read_me": "/v1/me",
            "list_sessions": "/v1/me/sessions",
            "list_patients": "/v1/me/patients",
            "read_heads": "/v1/sync/heads",
            "list_vocabularies": "/v1/vocabularies",
            "read_vocabulary": "/v1/vocabularies/pain_scales",
            "read_jwks": "/.well-known/jwks.json",
            "read_liveness": "/livez",
            "read_readiness": "/readyz",
        },
        clinician.http.get: {"list_patients": "/v1/me/patients", "list_held_grants": "/v1/me/grants"},
    }
    for get, paths in asked.items():
        for name, path in paths.items():
            params = DAYS if name in ("read_slots", "read_adherence") else {}
            found.setdefault(name, []).append(await get(path, params=params))
    return found


def instants(value: Any) -> Iterator[str]:
    """Every text of an answer that begins as an instant does."""
    if isinstance(value, dict | list):
        for inner in value.values() if isinstance(value, dict) else value:
            yield from instants(inner)
    elif isinstance(value, str) and re.match(r"\d{4}-\d\d-\d\dT", value):
        yield value


async def test_every_answer_fits_its_schema_and_its_instants_have_one_form(
    app: FastAPI, ada: Phone, bob: Phone, superuser: Connection
) -> None:
    document = json.loads(json.dumps(app.openapi()))
    found = await answers(ada, await make_clinician(superuser, bob))
    operations = {one["operationId"]: one for path in document["paths"].values() for one in path.values()}
    assert found.keys() | EMPTY == operations.keys()
    for name, responses in found.items():
        for response in responses:
            assert response.is_success, (name, response.text)
            described = operations[name]["responses"][str(response.status_code)]["content"]["application/json"]
            schema = described["schema"] | {"components": document["components"]}
            errors = [
                (list(one.instance_path), one.message) for one in jsonschema_rs.iter_errors(schema, response.json())
            ]
            assert errors == [], name
            assert [one for one in instants(response.json()) if not INSTANT.fullmatch(one)] == [], name
