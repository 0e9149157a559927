"""What is sent: for each workload and each side a plan, that is a list of whole requests to choose from at random."""

import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from itertools import cycle
from typing import Any

from app.schemas.entries import ENTRY, EntryIn
from app.services import record_store, records
from bench.drivers import GAP
from bench.people import PASSWORD, Person, entry, mutation, push_body, recently
from bench.stage import Stage

Plan = list[bytes]
MOMENTS = 64  # a plan's entries happened at so many different moments
DIARY, EQUAL, BARE, POCKETBASE = "diary", "equal", "bare", "pocketbase"


@dataclass(frozen=True)
class Workload:
    """A kind of load. `stores`: the records that an accepted request stores; None where only its answers 201 do."""

    name: str
    plans: dict[str, Callable[[Stage], Plan]]
    stores: int | None = 0
    goals: list["Goal"] = field(default_factory=list)
    most: int = 1000  # connections: what takes long would else be measured by what the end of a run cuts off


@dataclass(frozen=True)
class Goal:
    """What issue 6 asks for: the ratio to a side, of requests a second (at least) or of processor time (at most)."""

    side: str
    figure: str  # "rate" or "cpu"
    bound: float

    def reached(self, ratio: float) -> bool:
        """Whether this ratio will do."""
        return ratio >= self.bound if self.figure == "rate" else ratio <= self.bound

    def __str__(self) -> str:
        sign = "≥" if self.figure == "rate" else "≤"
        return f"{self.figure} {sign} {self.bound:g}× {self.side}"


def request(method: str, path: str, body: bytes = b"", token: str = "") -> bytes:
    """A whole HTTP request."""
    lines = [f"{method} {path} HTTP/1.1", "Host: 127.0.0.1"]
    if token:
        lines.append(f"Authorization: Bearer {token}")
    if method == "POST":
        lines += ["Content-Type: application/json", f"Content-Length: {len(body)}"]
    return "\r\n".join([*lines, "", ""]).encode() + body


def compact(value: Any) -> bytes:
    """JSON as phones send it."""
    return json.dumps(value, separators=(",", ":")).encode()


def sent(place: int) -> dict[str, Any]:
    """The entry of a plan's place, with a gap for its id."""
    return entry(id=GAP, occurred_at=recently(17 * place))


def items(places: Iterable[int], **more: Any) -> bytes:
    """The same entries as write_records_v1() takes them: a line of items, and one for each document."""
    bodies = [EntryIn.model_validate(sent(place)) for place in places]
    taken, documents = record_store.sent([replace(records.change_of(ENTRY, body, GAP, 0), **more) for body in bodies])
    return "\n".join([taken, *documents]).encode()


def creating(authors: Callable[[Stage], list[Person]]) -> dict[str, Callable[[Stage], Plan]]:
    """One entry, by one of these people."""

    def each(stage: Stage) -> list[tuple[Person, int]]:
        return list(zip(cycle(authors(stage)), range(MOMENTS), strict=False))

    return {
        DIARY: lambda stage: [
            request("POST", f"/v1/patients/{who.diary}/entries", compact(sent(place)), who.token)
            for who, place in each(stage)
        ],
        EQUAL: lambda stage: [
            request("POST", f"/{who.caller}/{who.diary}/entries", items([place])) for who, place in each(stage)
        ],
        BARE: lambda stage: [
            request("POST", f"/{who.diary}/entries", compact(sent(place))) for who, place in each(stage)
        ],
    }


def pushing() -> dict[str, Callable[[Stage], Plan]]:
    """A hundred entries, by anybody."""
    hundred = range(100)

    def push(_: Person) -> bytes:
        return compact(push_body([mutation("entry", sent(place), GAP) for place in hundred]))

    return {
        DIARY: lambda stage: [
            request("POST", f"/v1/patients/{who.diary}/sync/push", push(who), who.token) for who in stage.people
        ],
        EQUAL: lambda stage: [
            request("POST", f"/{who.caller}/{who.diary}/push", items(hundred, mutation_id=GAP)) for who in stage.people
        ],
        BARE: lambda stage: [
            request("POST", f"/{who.diary}/push", compact([sent(place) for place in hundred])) for who in stage.people
        ],
    }


def reading(reader: Callable[[Stage], Person]) -> dict[str, Callable[[Stage], Plan]]:
    """The newest fifty of the long diary."""
    return {
        DIARY: lambda stage: [
            request("GET", f"/v1/patients/{stage.people[0].diary}/timeline?limit=50", token=reader(stage).token)
        ],
        EQUAL: lambda stage: [request("GET", f"/{reader(stage).caller}/{stage.people[0].diary}/timeline")],
        BARE: lambda stage: [request("GET", f"/{stage.people[0].diary}/timeline")],
    }


def pulling() -> dict[str, Callable[[Stage], Plan]]:
    """A hundred changes somewhere in the long diary."""
    return {
        DIARY: lambda stage: [
            request(
                "GET",
                f"/v1/patients/{stage.people[0].diary}/sync/pull?limit=100&cursor={cursor}",
                token=stage.people[0].token,
            )
            for cursor in stage.cursors
        ],
        EQUAL: lambda stage: [
            request("GET", f"/{stage.people[0].caller}/{stage.people[0].diary}/pull/{epoch}/{seq}/{nonce}")
            for epoch, seq, nonce in stage.places
        ],
        BARE: lambda stage: [request("GET", f"/{stage.people[0].diary}/pull/{seq}") for seq in stage.bare_places],
    }


def mixing(*parts: tuple[int, dict[str, Callable[[Stage], Plan]]]) -> dict[str, Callable[[Stage], Plan]]:
    """So many requests of each, as each side sends them."""

    def mixed(side: str) -> Callable[[Stage], Plan]:
        def plan(stage: Stage) -> Plan:
            plans = [(share * MOMENTS, part[side](stage)) for share, part in parts]
            return [one for count, each in plans for one, _ in zip(cycle(each), range(count), strict=False)]

        return plan

    return {side: mixed(side) for side in (DIARY, EQUAL, BARE)}


def reckoning() -> dict[str, Callable[[Stage], Plan]]:
    """A year of adherence; what the figures are made of alone, on the other side."""
    days = "from=2025-01-01&to=2025-12-31"
    return {
        DIARY: lambda stage: [
            request("GET", f"/v1/patients/{stage.people[1].diary}/adherence?{days}", token=stage.people[1].token)
        ],
        EQUAL: lambda stage: [request("GET", f"/{stage.people[1].caller}/{stage.people[1].diary}/year")],
    }


def signing_in() -> dict[str, Callable[[Stage], Plan]]:
    """Everybody at once, with the password."""
    return {
        DIARY: lambda stage: [
            request("POST", "/v1/auth/sessions", compact({"email": who.email, "password": PASSWORD}))
            for who in stage.people
        ]
    }


def _everybody(stage: Stage) -> list[Person]:
    return stage.people


def _one(stage: Stage) -> list[Person]:
    return stage.people[-1:]


def _patient(stage: Stage) -> Person:
    return stage.people[0]


def _clinician(stage: Stage) -> Person:
    assert stage.clinician is not None
    return stage.clinician


CREATE = [Goal(BARE, "rate", 0.4), Goal(BARE, "cpu", 3.5), Goal(EQUAL, "cpu", 1.8), Goal(POCKETBASE, "rate", 1.3)]
PUSH = [Goal(BARE, "rate", 0.5), Goal(EQUAL, "cpu", 1.6), Goal(POCKETBASE, "rate", 6)]
READ = [Goal(BARE, "rate", 0.85), Goal(EQUAL, "cpu", 1.6)]
TIMELINE, PULL = [*READ, Goal(POCKETBASE, "rate", 2)], [*READ, Goal(POCKETBASE, "rate", 3)]
WORKLOADS = [
    Workload("create", creating(_everybody), 1, CREATE),
    Workload("create-one", creating(_one), 1, CREATE),
    Workload("push-100", pushing(), 100, PUSH, most=8),
    Workload("timeline-50", reading(_patient), 0, TIMELINE),
    Workload("timeline-50-clinician", reading(_clinician), 0, TIMELINE),
    Workload("pull-100", pulling(), 0, PULL),
    Workload("mixed", mixing((7, creating(_everybody)), (2, reading(_patient)), (1, pulling())), None),
    Workload("adherence-year", reckoning(), most=2),
    Workload("sign-in", signing_in(), most=8),
]
