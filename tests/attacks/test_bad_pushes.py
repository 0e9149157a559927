"""Bodies that are wrong in as many places as fit: whoever sends them keeps nobody else waiting.

What is counted is work and turns, not time: which thread reads, who may run in between, how many faults are collected.
"""

import asyncio
import threading
from collections.abc import Callable, Iterator
from typing import Any
from uuid import uuid4

import pytest
from pydantic import BaseModel, ValidationError

from app.errors import BadRequest
from app.http import push_body
from app.http.strict_json import MAX_MEMBERS_OF_ONE, MAX_VALUES
from app.schemas.kinds import KINDS
from app.schemas.sync import DigestIn
from app.services import sync
from tests.people import Phone, entry, record_of, treatment
from tests.routers.test_poison import noted, push_raw
from tests.routers.test_sync import push, put, statuses

pytestmark = pytest.mark.anyio

MOST_FAULTS = 7_000  # Pydantic tells some hundreds in a millisecond
WRONG_SITE = {"region": "nowhere", "scores": [{"measure": "q", "scale": "z", "value": "a"}]}


async def test_what_cannot_be_read_is_read_once_more_in_a_thread_of_its_own(
    ada: Phone, monkeypatch: pytest.MonkeyPatch
) -> None:
    threads = []
    read: Callable[[bytes, BadRequest], object] = push_body.parse

    def parse(body: bytes, refusal: BadRequest) -> object:
        threads.append(threading.get_ident())
        return read(body, refusal)

    monkeypatch.setattr(push_body, "parse", parse)
    answer = await push_raw(ada, noted(r'"half \ud83d"'))
    assert statuses(answer.json()["results"]) == ["invalid"]
    assert len(threads) == 1
    assert threading.get_ident() not in threads


@pytest.mark.parametrize(
    "wrong",
    [
        put("entry", entry(sites=[WRONG_SITE] * 20)),
        put("entry", entry(**{f"member_{number}": 1 for number in range(50)})),
        put("treatment", treatment(regimens=[{"schedule": {"type": "scheduled", "times": ["a", "b"]}}] * 20)),
        put("entry", entry()) | {f"member_{number}": 1 for number in range(50)},
        put("of_next_year", entry()),
    ],
    ids=["sites", "members", "regimens", "envelope", "kind"],
)
async def test_others_have_a_turn_between_two_items_that_are_wrong(
    wrong: dict[str, Any], ada: Phone, monkeypatch: pytest.MonkeyPatch
) -> None:
    turns, turn, told = list[int](), 0, sync._invalid

    async def take_turns() -> None:
        nonlocal turn
        while True:
            turn += 1
            await asyncio.sleep(0)

    def invalid(*arguments: Any) -> Any:
        turns.append(turn)
        return told(*arguments)

    monkeypatch.setattr(sync, "_invalid", invalid)
    others = asyncio.create_task(take_turns())
    answer = await push(ada, *(wrong | {"mutation_id": str(uuid4()), "id": str(uuid4())} for _ in range(20)))
    others.cancel()
    assert statuses(answer.json()["results"]) == ["invalid"] * 20
    assert len(set(turns)) == len(turns) == 20


def hostile() -> Iterator[Any]:
    """Each list of objects of each body, filled with what no object of ours has, as far as a body may go."""
    bodies: list[tuple[type[BaseModel], dict[str, Any]]] = [
        *((kind.create, record_of(kind)) for kind in KINDS),
        (DigestIn, {"records": []}),
    ]
    for model, body in bodies:
        for name, field in model.model_fields.items():
            if "list[" in str(field.annotation):
                for length in (5, 10, 20, 32, 47, 64, 100, 1000):
                    members = min(MAX_MEMBERS_OF_ONE, MAX_VALUES // length)
                    wrong = {f"member_{number}": 1 for number in range(members)}
                    yield pytest.param(model, body | {name: [wrong] * length}, id=f"{model.__name__}-{name}-{length}")


@pytest.mark.parametrize(("model", "body"), [*hostile()])
def test_no_body_has_more_faults_than_can_be_told_at_once(model: type[BaseModel], body: dict[str, Any]) -> None:
    with pytest.raises(ValidationError) as failure:
        model.model_validate(body)
    assert failure.value.error_count() <= MOST_FAULTS
