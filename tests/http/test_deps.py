"""What a route asks for: each permission that opens a diary in a transaction names its call in the audit trail."""

import re
from inspect import getclosurevars

import pytest
from fastapi import FastAPI
from fastapi.routing import APIRoute, iter_route_contexts

from app.http import deps

ACTIONS = {  # as they stand in the audit trail since its first row
    "read_patient": "patients.read",
    "create_share_code": "share_code.create",
    "list_grants": "grants.list",
    "confirm_grant": "grant.confirm",
    "narrow_grant": "grant.narrow",
    "revoke_grant": "grant.revoke",
    "list_accesses": "accesses.list",
}
MAKERS = (deps.own_diary("any"), deps.patient_read("any"))
pytestmark = pytest.mark.anyio


async def test_every_route_that_opens_a_diary_in_its_transaction_names_its_call(app: FastAPI) -> None:
    named, opening = {}, set()
    for context in iter_route_contexts(app.routes):
        if isinstance(context.original_route, APIRoute):
            calls = [node.call for node in deps.tree(context.dependant) if node.call is not None]
            words = [getclosurevars(call).nonlocals["action"] for call in calls if is_permission(call)]
            if words:
                [named[context.original_route.name]] = words
            if {deps.open_transaction, deps.open_diary} <= set(calls):
                opening.add(context.original_route.name)
    assert named == ACTIONS
    assert opening == set(ACTIONS)


def is_permission(call: object) -> bool:
    return getattr(call, "__code__", None) in [getattr(maker, "__code__", ...) for maker in MAKERS]


@pytest.mark.parametrize("action", ACTIONS.values())
def test_an_action_is_a_noun_and_a_verb(action: str) -> None:
    assert re.fullmatch(r"[a-z_]+\.[a-z]+", action)
