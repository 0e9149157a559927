"""Consent against a small model of it: random walks of sharing, redeeming, confirming, narrowing, ending and the rest.

After each step some readers look at some diaries, and must be answered what the model says, on the very next request.
CONSENT_SEEDS and CONSENT_STEPS make it longer (`make consent`); a failure names its seed and its last steps.
"""

from collections import deque
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from datetime import UTC, datetime
from random import Random
from typing import Any, TypeAlias
from uuid import UUID

import asyncpg
import httpx
import pytest
from fastapi import FastAPI

from app.schemas import kinds
from tests.conftest import connect
from tests.forms import size
from tests.people import (
    SCOPES,
    Person,
    Phone,
    dose,
    entry,
    lent,
    make_clinician,
    make_organisation,
    profile,
    redeem,
    share,
    treatment,
)

pytestmark = pytest.mark.anyio

Connection: TypeAlias = "asyncpg.Connection[asyncpg.Record]"
Answer: TypeAlias = tuple[int, Any]

SEEDS = size("CONSENT_SEEDS", short=2, long=8)
STEPS = size("CONSENT_STEPS", short=250, long=250)
PATIENTS = ("ada", "bob", "cyd")
CLINICIANS = ("weber", "kaya", "osei")
READERS = (*CLINICIANS, "cyd", "dan")  # cyd and dan are patients who help others
ORGANISATIONS = ("clinic", "practice")
ALL = frozenset({*SCOPES, "own"})
WINDOWS = (None, datetime(2025, 1, 1, tzinfo=UTC), datetime(2026, 6, 1, tzinfo=UTC))  # all, what is new, plans only
NEVER = datetime.max.replace(tzinfo=UTC)
DAYS = {"from": "2026-03-01", "to": "2026-03-31"}
# Terms that the API refuses, by scope: whoever has the first needs one of the others.
NEEDS = {needing: set(needed) for needing, needed in kinds.NEEDS.items()}
OPENING = {"entries:read", "treatments:read", "profile:read"}


@dataclass(frozen=True)
class Record:
    """What every diary holds: where it is, which scopes begin with what, and from when to when it concerns."""

    id: str
    place: str
    kind: str
    scope: str
    first: datetime
    last: datetime
    note: bool = True
    plan: str = ""  # of which it is a change


@dataclass(frozen=True)
class View:
    """What somebody may see of a diary."""

    scopes: frozenset[str]
    since: datetime | None

    def shows(self, record: Record) -> bool:
        """Whether this record is in it."""
        return f"{record.scope}:read" in self.scopes and (self.since is None or record.last >= self.since)

    def item(self, record: Record) -> tuple[str, str, bool]:
        """The record as it is seen: with or without a note."""
        return record.kind, record.plan or record.id, record.note and "notes:read" in self.scopes


@dataclass
class Consent:
    """A grant to a person or an organisation."""

    id: str
    patient: str
    grantee: str
    view: View
    status: str = "pending"
    version: int = 1


@dataclass
class Offer:
    """A share code."""

    id: str
    patient: str
    view: View
    over: bool = False
    redeemer: str | None = None
    consent: Consent | None = None


@dataclass
class Model:
    """Who trusts whom with what."""

    disabled: set[str] = field(default_factory=set)
    unverified: set[str] = field(default_factory=set)
    membership: dict[str, str] = field(default_factory=dict)
    offers: dict[str, Offer] = field(default_factory=dict)
    consents: list[Consent] = field(default_factory=list)

    def access(self, reader: str, patient: str) -> View | None:
        """What the reader may see now: a personal consent comes before one to the organisation."""
        if reader == patient:
            return View(ALL, None)
        for grantee in self.names(reader):
            for consent in self.consents:
                if (consent.patient, consent.grantee, consent.status) == (patient, grantee, "active"):
                    return consent.view
        return None

    def names(self, reader: str) -> list[str]:
        """Whose consents count for the reader: none for a clinician who is not verified."""
        if reader in self.unverified:
            return []
        return [reader, *filter(None, [self.membership.get(reader)])]

    def redeem(self, reader: str, code: str, as_organisation: bool) -> int:
        """The status that redeeming answers."""
        organisation = self.membership.get(reader)
        if reader in self.unverified or (as_organisation and organisation is None):
            return 403
        offer = self.offers.get(code)
        if offer is None or offer.over or offer.patient == reader or offer.redeemer not in (None, reader):
            return 404
        if offer.consent is not None:
            return 202 if offer.consent.grantee in self.names(reader) else 404
        offer.redeemer = reader
        offer.consent = Consent(
            "", offer.patient, organisation if as_organisation and organisation else reader, offer.view
        )
        self.consents.append(offer.consent)
        return 202

    def confirm(self, patient: str, consent: Consent) -> int:
        """The status that confirming answers."""
        refusal = _refusal(patient, consent)
        if refusal == 200 and consent.status == "pending":
            for other in self.consents:
                if (other.patient, other.grantee) == (patient, consent.grantee) and other.status in ("active", "faded"):
                    other.status = "revoked"
            consent.status = "active"
        return refusal

    def narrow(self, patient: str, consent: Consent, less: dict[str, Any]) -> int:
        """The status that narrowing answers."""
        scopes = frozenset(less.get("scopes", consent.view.scopes))
        since = less.get("data_from", consent.view.since)
        if not readable(scopes):
            return 422
        refusal = _refusal(patient, consent)
        if refusal != 200:
            return refusal
        if not scopes <= consent.view.scopes or (since or NEVER) < (consent.view.since or since or NEVER):
            return 422
        changed = View(scopes, since)
        consent.version += changed != consent.view or "expires_at" in less
        consent.view = changed
        if "expires_at" in less:
            expire(consent)
        return 200


def _refusal(patient: str, consent: Consent) -> int:
    if consent.patient != patient:
        return 404
    return 200 if consent.status in ("pending", "active") else 410


def expire(consent: Consent) -> None:
    """Its time is over; an active one still stands in the way of the next, which ends it."""
    consent.status = {"pending": "expired", "active": "faded"}.get(consent.status, consent.status)


def word(consent: Consent) -> str:
    """Its status as both sides read it."""
    return "expired" if consent.status == "faded" else consent.status


def readable(scopes: frozenset[str]) -> bool:
    """Whether nobody writes what they cannot read."""
    return all(scope not in scopes or needed & scopes for scope, needed in NEEDS.items())


@dataclass
class Town:
    """Everybody on their phones, with what each diary holds, and the superuser who turns clocks."""

    app: FastAPI
    superuser: Connection
    phones: dict[str, Phone]
    organisations: dict[str, UUID]
    records: dict[str, list[Record]]

    async def reset(self) -> None:
        """As if nobody had consented to anything yet."""
        await self.superuser.execute(
            "TRUNCATE grants, share_codes, sign_in_delays; UPDATE users SET disabled_at = NULL;"
            "UPDATE clinicians SET verified_at = now(), organisation_id = NULL; UPDATE sessions SET created_at = now()"
        )
        for phone in self.phones.values():
            ids, role = (UUID(phone.user_id), UUID(phone.session_id)), phone.tokens["user"]["role"]
            token = self.app.state.diary.tokens.issue(*ids, role, datetime.now(UTC))
            phone.http.headers["Authorization"] = f"Bearer {token}"

    def name_of(self, patient_id: str) -> str:
        """Whose diary it is."""
        return next((name for name in PATIENTS if self.phones[name].patient_id == patient_id), "")


@pytest.fixture(scope="module")
async def town(app: FastAPI, owner_url: str) -> AsyncIterator[Town]:
    """Three patients with the same diary, three clinicians, two helpers, two organisations."""
    superuser = await asyncpg.connect(owner_url)
    async with AsyncExitStack() as stack:
        phones = {}
        for name in sorted({*PATIENTS, *READERS}):
            phones[name] = await Person().register_and_sign_in(await stack.enter_async_context(connect(app)))
            if name in CLINICIANS:
                await make_clinician(superuser, phones[name])
        organisations = {name: await make_organisation(superuser) for name in ORGANISATIONS}
        records = {name: await fill(phones[name]) for name in PATIENTS}
        yield Town(app, superuser, phones, organisations, records)
    await superuser.close()


async def fill(phone: Phone) -> list[Record]:
    """What happened and what was agreed before the windows and in them; each with a note where it can have one."""
    old, new, ended = (datetime(year, month, 1, tzinfo=UTC) for year, month in ((2024, 5), (2026, 3), (2024, 12)))
    plans = [plan_of(old, ended), plan_of(old, None)]
    sent: list[tuple[Record, dict[str, Any]]] = []
    for at in (old, new):
        for place, kind, scope, body in (
            ("/entries", "entry", "entries", entry(occurred_at=written(at), note="between us")),
            ("/treatment-events", "treatment_event", "treatments", dose(plans[1]["id"], written(at), note="with milk")),
        ):
            sent.append((Record(body["id"], place, kind, scope, at, at), body))
    for plan, last in zip(plans, (ended, NEVER), strict=True):
        sent.append((Record(plan["id"], "/treatments", "treatment", "treatments", old, last), plan))
    about = Record(phone.patient_id, "/profile", "profile", "profile", old, NEVER, note=False)
    sent.append((about, profile(occurred_at=written(old))))
    for record, body in sent:
        assert (await phone.post(record.place, body)).status_code == 201
    changes = [(plans[0], old), (plans[0], ended), (plans[1], old)]
    return [record for record, _ in sent] + [
        Record("", "", "treatment_change", "treatments", at, at, note=False, plan=plan["id"]) for plan, at in changes
    ]


def plan_of(first: datetime, last: datetime | None) -> dict[str, Any]:
    """A plan that holds from the one to the other."""
    regimen = {"valid_from": written(first), "time_zone": "UTC", "schedule": {"type": "scheduled", "times": ["08:00"]}}
    regimen |= {"valid_to": written(last)} if last else {}
    status = "completed" if last else "active"
    return treatment(occurred_at=written(first), regimens=[regimen], status=status, note="in doubt, half of it")


def written(at: datetime) -> str:
    """The instant as JSON has it."""
    return at.isoformat().replace("+00:00", "Z")


def seen(item: dict[str, Any]) -> tuple[str, str, bool]:
    """An item of an answer as View.item() describes it."""
    named = item["treatment_id"] if item["kind"] == "treatment_change" else item["id"]
    return item["kind"], named, "note" in item


@dataclass
class Walk:
    """One walk: what is done at random, and what must come of it."""

    town: Town
    random: Random
    model: Model = field(default_factory=Model)
    steps: deque[str] = field(default_factory=lambda: deque(maxlen=12))

    async def step(self) -> tuple[str, str]:
        """Does something; who may now see whose diary differently."""
        steps = [self.share, self.redeem, self.confirm, self.narrow, self.revoke, self.expire, self.able, self.qualify]
        [step] = self.random.choices(steps, weights=[3, 5, 6, 4, 1, 1, 2, 2])
        return await step()

    async def share(self) -> tuple[str, str]:
        patient, scopes = self.random.choice(PATIENTS), self.some_scopes(SCOPES)
        while not readable(scopes):
            scopes = self.some_scopes(SCOPES)
        view = View(scopes, self.random.choice((None, None, *WINDOWS)))
        terms = {"scopes": sorted(scopes)} | ({"data_from": written(view.since)} if view.since else {})
        answer = await share(self.town.phones[patient], self.random.randbytes(8).hex(), **terms)
        waiting = [
            one for one in self.model.offers.values() if one.patient == patient and not one.over and not one.redeemer
        ]
        expected = 401 if patient in self.model.disabled else 429 if len(waiting) >= 3 else 201
        self.told(answer, expected, "share", patient, terms)
        if answer.status_code == 201:
            self.model.offers[answer.json()["code"]] = Offer(answer.json()["id"], patient, view)
        return self.random.choice(READERS), patient

    async def redeem(self) -> tuple[str, str]:
        reader = self.random.choice(READERS)
        as_organisation = self.random.random() < (0.5 if reader in self.model.membership else 0.1)
        unused = [code for code, offer in self.model.offers.items() if offer.redeemer in (None, reader)]
        code = self.random.choice([*unused[-4:], *list(self.model.offers)[-1:], "ZZZZ-ZZZZ"])
        await self.town.superuser.execute("TRUNCATE sign_in_delays")
        answer = await redeem(self.town.phones[reader], code, as_organisation=as_organisation)
        expected = 401 if reader in self.model.disabled else self.model.redeem(reader, code, as_organisation)
        self.told(answer, expected, "redeem", reader, code, as_organisation)
        if answer.status_code == 202:
            consent = self.model.offers[code].consent
            assert consent is not None
            consent.id = consent.id or answer.json()["id"]
            assert answer.json()["id"] == consent.id
        return reader, self.model.offers[code].patient if code in self.model.offers else "ada"

    async def confirm(self) -> tuple[str, str]:
        return await self.decide("confirm", "POST", "/confirm")

    async def revoke(self) -> tuple[str, str]:
        return await self.decide("revoke", "DELETE", "")

    async def narrow(self) -> tuple[str, str]:
        return await self.decide("narrow", "PATCH", "")

    async def decide(self, verb: str, method: str, path: str) -> tuple[str, str]:
        """The patient, or now and then another one, decides about a consent."""
        if not self.model.consents:
            return await self.share()
        wanted = "pending" if verb == "confirm" else "active"
        fitting = [consent for consent in self.model.consents if consent.status == wanted]
        consent = self.random.choice([*fitting, *fitting, *self.model.consents[-2:]])
        patient = consent.patient if self.random.random() < 0.95 else self.random.choice(PATIENTS)
        phone, less = self.town.phones[patient], self.less(consent) if verb == "narrow" else None
        body = less and {name: written(v) if isinstance(v, datetime) else sorted(v) for name, v in less.items()}
        answer = await phone.http.request(method, f"{phone.diary}/grants/{consent.id}{path}", json=body)
        self.told(answer, self.decided(verb, patient, consent, less), verb, patient, consent, body)
        return self.somebody(consent.grantee), consent.patient

    def decided(self, verb: str, patient: str, consent: Consent, less: dict[str, Any] | None) -> int:
        """What must come of it."""
        if patient in self.model.disabled:
            return 401
        if verb == "confirm":
            return self.model.confirm(patient, consent)
        if less is not None:
            return self.model.narrow(patient, consent, less)
        if consent.patient != patient:
            return 404
        consent.status = "revoked"
        return 204

    def less(self, consent: Consent) -> dict[str, Any]:
        """Less than a consent; at times more, which is refused."""
        terms = SCOPES if self.random.random() < 0.2 else sorted(consent.view.scopes)
        choices: list[dict[str, Any]] = [
            {"scopes": self.some_scopes(terms)},
            {"scopes": self.some_scopes(terms)},
            {"data_from": self.random.choice(WINDOWS[1:])},
            {"expires_at": datetime(2026, 1, 1, tzinfo=UTC)},
        ]
        return self.random.choice(choices)

    async def expire(self) -> tuple[str, str]:
        """Time goes by: for a consent, or for a code."""
        if self.model.offers and self.random.random() < 0.5:
            code = self.random.choice(list(self.model.offers))
            offer = self.model.offers[code]
            offer.over = True
            await self.town.superuser.execute("UPDATE share_codes SET expires_at = now() WHERE id = $1", UUID(offer.id))
            self.steps.append(f"over {code}")
            return self.random.choice(READERS), offer.patient
        if not self.model.consents:
            return await self.share()
        consent = self.random.choice(self.model.consents[-8:])
        await self.town.superuser.execute("UPDATE grants SET expires_at = now() WHERE id = $1", UUID(consent.id))
        expire(consent)
        self.steps.append(f"expire {consent}")
        return self.somebody(consent.grantee), consent.patient

    async def able(self) -> tuple[str, str]:
        """An account is disabled, or enabled again."""
        name = self.random.choice(sorted({*PATIENTS, *READERS}))
        if self.model.disabled:  # one at a time, or little would go on
            name = min(self.model.disabled)
        disable = not self.model.disabled
        self.model.disabled ^= {name}
        await self.put("users", "disabled_at", "id", name, datetime.now(UTC) if disable else None)
        return (name if name in READERS else self.random.choice(READERS)), self.random.choice(PATIENTS)

    async def qualify(self) -> tuple[str, str]:
        """A clinician joins or leaves an organisation, or is verified or no more."""
        name = self.random.choice(CLINICIANS)
        if self.random.random() < 0.6:
            where = self.random.choice([*ORGANISATIONS, *ORGANISATIONS, None])
            self.model.membership = {k: v for k, v in self.model.membership.items() if k != name}
            self.model.membership |= {name: where} if where else {}
            await self.put("clinicians", "organisation_id", "user_id", name, where and self.town.organisations[where])
        else:
            name = min(self.model.unverified, default=name)
            self.model.unverified ^= {name}
            verified_at = None if name in self.model.unverified else datetime.now(UTC)
            await self.put("clinicians", "verified_at", "user_id", name, verified_at)
        return name, self.random.choice(PATIENTS)

    async def put(self, table: str, column: str, key: str, name: str, value: object) -> None:
        """Changes somebody's row behind the API."""
        statement = f"UPDATE {table} SET {column} = $2 WHERE {key} = $1"
        await self.town.superuser.execute(statement, UUID(self.town.phones[name].user_id), value)
        self.steps.append(f"{name}: {column} = {value}")

    def some_scopes(self, scopes: Any) -> frozenset[str]:
        """At least one of them, and rather many."""
        least = self.random.choice((1, len(scopes) // 2, len(scopes) - 1)) or 1
        return frozenset(self.random.sample(sorted(scopes), self.random.randint(least, len(scopes))))

    def somebody(self, grantee: str) -> str:
        """A reader for whom the grantee's consents count, if there is one."""
        if grantee in READERS:
            return grantee
        return self.random.choice([n for n in CLINICIANS if self.model.membership.get(n) == grantee] or CLINICIANS)

    def told(self, answer: httpx.Response, status: int, *what: object) -> None:
        """Remembers the step, and holds the answer against the model."""
        self.steps.append(" ".join(map(str, what)))
        assert answer.status_code == status, (answer.text, *self.steps)

    def somewhere(self) -> tuple[str, str]:
        """A reader and a diary: mostly one that a consent opens."""
        pairs = [(reader, patient) for reader in (*READERS, "ada", "bob") for patient in PATIENTS]
        related = [pair for pair in pairs if pair[0] != pair[1] and self.model.access(*pair)]
        return self.random.choice(related if related and self.random.random() < 0.7 else pairs)

    async def look(self, reader: str, patient: str) -> None:
        """The reader tries one way to see something of the diary."""
        looks = [self.timeline, self.listed, self.one, self.history, self.stale, self.adherence, self.itself]
        look = self.random.choice([*looks, self.panel, self.held, self.given])
        path, method, expected = look(reader, patient)
        phone = lent(self.town.phones[reader], self.town.phones[patient])
        address = path if path.startswith("/v1") else f"{phone.diary}{path}"
        answer = await phone.http.request(method, address, headers={"If-Match": '"99"'} if method == "DELETE" else {})
        if reader in self.model.disabled:
            expected = (401, None)
        found = (answer.status_code, self.content(path, answer) if answer.status_code == 200 else None)
        assert found == expected, (reader, patient, path, answer.text, self.model.access(reader, patient), *self.steps)

    def content(self, path: str, answer: httpx.Response) -> Any:
        """What of an answer is compared."""
        body = answer.json()
        if path.startswith("/adherence"):
            return [one["treatment_id"] for one in body["treatments"]]
        if path == "/v1/me/patients":
            named = [(self.town.name_of(one["id"]), frozenset(one["scopes"])) for one in body["items"]]
            return sorted(((name, len(scopes)) for name, scopes in named if name))
        if path.endswith("/grants"):
            return sorted((one["id"], one["status"], one["version"], len(one["scopes"])) for one in body["items"])
        if path.endswith("/versions"):
            return [seen(one["record"]) for one in body["items"]]
        if "items" in body:
            return sorted(map(seen, body["items"]))
        return seen(body) if "kind" in body else body["id"]

    def timeline(self, reader: str, patient: str) -> tuple[str, str, Answer]:
        return "/timeline?limit=200", "GET", self.page(reader, patient, OPENING, self.town.records[patient])

    def listed(self, reader: str, patient: str) -> tuple[str, str, Answer]:
        record = self.random.choice([one for one in self.town.records[patient] if one.place not in ("", "/profile")])
        records = [one for one in self.town.records[patient] if one.place == record.place]
        return record.place, "GET", self.page(reader, patient, {f"{record.scope}:read"}, records)

    def page(self, reader: str, patient: str, scopes: set[str], records: list[Record]) -> Answer:
        view = self.model.access(reader, patient)
        if view is None or not view.scopes & scopes:
            return (404 if view is None else 403), None
        return 200, sorted(view.item(record) for record in records if view.shows(record))

    def one(self, reader: str, patient: str) -> tuple[str, str, Answer]:
        path, record = self.some_record(patient)
        return path, "GET", self.reading(reader, patient, record)

    def history(self, reader: str, patient: str) -> tuple[str, str, Answer]:
        path, record = self.some_record(patient)
        status, item = self.reading(reader, patient, record)
        return f"{path}/versions", "GET", (status, item and [item])

    def some_record(self, patient: str) -> tuple[str, Record]:
        record = self.random.choice([one for one in self.town.records[patient] if one.place])
        return record.place if record.kind == "profile" else f"{record.place}/{record.id}", record

    def reading(self, reader: str, patient: str, record: Record) -> Answer:
        view = self.model.access(reader, patient)
        if view is None or f"{record.scope}:read" not in view.scopes:
            return (404 if view is None else 403), None
        return (200, view.item(record)) if view.shows(record) else (404, None)

    def stale(self, reader: str, patient: str) -> tuple[str, str, Answer]:
        """Somebody who may write is told that the version is another one."""
        record = self.random.choice([one for one in self.town.records[patient] if one.place not in ("", "/profile")])
        view = self.model.access(reader, patient)
        allowed = view and f"{record.scope}:write" in view.scopes
        status = 404 if view is None else 403 if not allowed else 412 if view.shows(record) else 404
        return f"{record.place}/{record.id}", "DELETE", (status, None)

    def adherence(self, reader: str, patient: str) -> tuple[str, str, Answer]:
        view = self.model.access(reader, patient)
        plans = [one for one in self.town.records[patient] if one.kind == "treatment" and one.last == NEVER]
        answer: Answer = (200, [plan.id for plan in plans])
        if view is None or "adherence:read" not in view.scopes or view.since == WINDOWS[2]:
            answer = (404 if view is None else 403), None
        return f"/adherence?from={DAYS['from']}&to={DAYS['to']}", "GET", answer

    def itself(self, reader: str, patient: str) -> tuple[str, str, Answer]:
        status, _ = self.page(reader, patient, OPENING, [])
        return "", "GET", (status, self.town.phones[patient].patient_id if status == 200 else None)

    def panel(self, reader: str, _: str) -> tuple[str, str, Answer]:
        views = {patient: self.model.access(reader, patient) for patient in PATIENTS}
        shown = [(name, 1 if name == reader else len(view.scopes)) for name, view in views.items() if view is not None]
        return "/v1/me/patients", "GET", (200, sorted(shown))

    def held(self, reader: str, _: str) -> tuple[str, str, Answer]:
        return (
            "/v1/me/grants",
            "GET",
            self.grants([c for c in self.model.consents if c.grantee in self.model.names(reader)]),
        )

    def given(self, reader: str, patient: str) -> tuple[str, str, Answer]:
        if reader != patient:
            return "/grants", "GET", (403 if self.model.access(reader, patient) else 404, None)
        return "/grants", "GET", self.grants([c for c in self.model.consents if c.patient == patient])

    def grants(self, consents: list[Consent]) -> Answer:
        return 200, sorted((c.id, word(c), c.version, len(c.view.scopes)) for c in consents)


@pytest.mark.scaled
@pytest.mark.parametrize("seed", range(SEEDS))
async def test_every_reader_is_answered_what_the_consents_of_the_moment_open(town: Town, seed: int) -> None:
    await town.reset()
    walk = Walk(town, Random(seed))
    for number in range(STEPS):
        walk.steps.append(f"seed {seed}, step {number}:")
        reader, patient = await walk.step()
        await walk.look(reader, patient)
        await walk.look(*walk.somewhere())
