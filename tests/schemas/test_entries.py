"""The entry on the wire: what is taken, what is refused and where the refusal points."""

import json
from collections.abc import Iterator
from contextlib import suppress
from copy import deepcopy
from datetime import UTC, date, datetime, timedelta, timezone
from typing import Any, get_args

import jsonschema_rs
import pytest
from fastapi import FastAPI
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, ValidationError

from app import vocabularies
from app.domain.entries import facts, scale_ages
from app.schemas import entries
from app.schemas.entries import (
    ENTRY,
    EXAMPLE_ENTRY,
    MINIMAL_ENTRY,
    SCALES,
    EntryFields,
    EntryIn,
    EntryOut,
    EntryPatch,
)
from app.schemas.envelope import Performer

ENVELOPE = {k: MINIMAL_ENTRY[k] for k in ("id", "occurred_at", "time_zone")}
SITE = MINIMAL_ENTRY["sites"][0]
SERVER_FIELDS = {
    "kind": "entry",
    "patient_id": "0195d3f4-0c1d-7b2e-8f3a-4d5e6f708192",
    "version": 2,
    "change_seq": 7,
    "deleted": False,
    "local_date": "2026-03-29",
    "received_at": "2026-03-29T19:05:14Z",
    "author_id": "0195d3f4-0c1d-4111-9222-333344445555",
    "outside_validated_age": ["nrs_0_10"],
}


def refusals(body: dict[str, Any], model: type[BaseModel] = EntryIn) -> tuple[ValidationError, ValidationError]:
    """What is answered to the body as Python objects, and as bytes."""
    with pytest.raises(ValidationError) as objects:
        model.model_validate(body)
    with pytest.raises(ValidationError) as raw:
        model.model_validate_json(json.dumps(body))
    return objects.value, raw.value


def faults(body: dict[str, Any], model: type[BaseModel] = EntryIn) -> list[tuple[str, str]]:
    """Pointers and codes of what is wrong, the same for Python objects and for bytes."""
    objects, raw = (
        [("/".join(["", *map(str, error["loc"])]), error["type"]) for error in refusal.errors()]
        for refusal in refusals(body, model)
    )
    assert objects == raw
    return objects


def scored(value: int, **members: Any) -> dict[str, Any]:
    """A site with one score."""
    return {"region": "chest_left", "scores": [{"measure": "now", "scale": "nrs_0_10", "value": value} | members]}


UNSCORED = {"region": "chest_right"}


@st.composite
def valid_entries(draw: st.DrawFn) -> dict[str, Any]:
    """Entries that a careful phone could send."""
    performer = draw(st.sampled_from(get_args(get_args(Performer.__value__)[0])))
    offered = [scale for scale in SCALES.values() if performer in scale.performers]

    def scores() -> list[dict[str, Any]]:
        chosen = draw(st.lists(st.sampled_from(offered), max_size=4, unique=True))
        return [
            {
                "measure": draw(st.sampled_from(sorted(scale.measures))),
                "scale": scale.code,
                "value": draw(st.integers(0, int((scale.maximum - scale.minimum) / scale.step))) * int(scale.step),
            }
            for scale in chosen
        ]

    def codes(name: str, most: int = 3) -> list[str]:
        return draw(st.lists(st.sampled_from(vocabularies.load(name).ordered_codes), max_size=most, unique=True))

    zone = timezone(timedelta(minutes=draw(st.integers(-720, 840))))
    started = draw(st.datetimes(datetime(1900, 1, 1), datetime(2198, 1, 1)))  # noqa: DTZ001 - zone follows
    length = draw(st.none() | st.integers(0, 525_600))
    rating = st.none() | st.integers(0, 10)
    entry = {
        **ENVELOPE,
        "occurred_at": started.replace(tzinfo=zone).isoformat(),
        "time_zone": draw(st.sampled_from(["Europe/Berlin", "UTC", "Pacific/Kiritimati"])),
        "performer": performer,
        "sites": [
            {"region": region, "scores": scores(), "characters": codes("pain_characters")}
            for region in codes("body_regions")
        ],
        "triggers": [{"code": code} for code in codes("triggers")],
        "associated_symptoms": [
            {"code": code, "present": draw(st.booleans())} for code in codes("associated_symptoms")
        ],
        "interference": {"sleep": draw(rating), "mood": draw(rating)},
        "sleep": {"hours": draw(st.none() | st.floats(0, 24))},
        "mood": draw(st.integers(0, 10)),
    }
    if length is not None:
        entry["ended_at"] = (started + timedelta(minutes=length)).replace(tzinfo=zone).isoformat()
    return entry


def test_the_examples_are_entries() -> None:
    for example in (MINIMAL_ENTRY, EXAMPLE_ENTRY):
        EntryIn.model_validate(example)
    for model in (EntryIn, EntryFields, EntryPatch, EntryOut):
        for example in model.model_json_schema()["examples"]:
            model.model_validate(example)


def test_the_full_example_shows_every_field() -> None:
    assert set(EXAMPLE_ENTRY) | {"duration_minutes"} == set(EntryIn.model_fields)


def test_a_region_and_one_score_are_an_entry() -> None:
    entry = EntryIn.model_validate({**ENVELOPE, "sites": [scored(0)]})
    assert (entry.performer, entry.entry_mode, entry.no_pain, entry.ongoing) == ("self", "momentary", False, False)


def test_what_was_not_said_is_absent_and_defaults_are_present() -> None:
    assert EntryIn.model_validate(MINIMAL_ENTRY).model_dump(exclude_none=True) == {
        **ENVELOPE,
        "occurred_precision": "minute",
        "performer": "self",
        "entry_mode": "momentary",
        "ongoing": False,
        "no_pain": False,
        "sites": [SITE | {"characters": [], "radiates_to": []}],
        "triggers": [],
        "relief": [],
        "associated_symptoms": [],
        "red_flags": [],
    }


def test_the_full_example_is_written_as_it_was_read() -> None:
    assert EntryIn.model_validate(EXAMPLE_ENTRY).model_dump(exclude_none=True) == EXAMPLE_ENTRY


@given(valid_entries())
def test_an_entry_survives_being_written_and_read(sent: dict[str, Any]) -> None:
    entry = EntryIn.model_validate(sent)
    written = entry.model_dump_json(exclude_none=True)
    again = EntryIn.model_validate_json(written)
    assert again == entry == EntryIn.model_validate(json.loads(written))
    assert again.model_dump_json(exclude_none=True) == written
    assert again.occurred_at.utcoffset() == entry.occurred_at.utcoffset()


@given(valid_entries())
def test_what_is_taken_also_fits_the_published_schema(sent: dict[str, Any]) -> None:
    EntryIn.model_validate(sent)
    jsonschema_rs.validator_for(EntryIn.model_json_schema()).validate(sent)


@given(valid_entries())
def test_facts_follow_from_every_entry(sent: dict[str, Any]) -> None:
    entry = EntryIn.model_validate(sent)
    found = facts(entry)
    assert (found.worst_score is None) == (not any(site.scores for site in entry.sites))
    assert set(found.regions) == {site.region for site in entry.sites}
    assert found.duration_minutes is None or 0 <= found.duration_minutes <= 525_600
    assert set(scale_ages(entry, SCALES)) == {score.scale for site in entry.sites for score in site.scores}


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=5,
)


def places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[tuple[Any, ...], Any]]:
    """Everything inside a JSON value with its path."""
    inside = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, child in inside:
        yield (*path, key), child
        yield from places(child, (*path, key))


def with_value(path: tuple[Any, ...], value: Any) -> dict[str, Any]:
    """The full example with another value at that place."""
    body: Any = deepcopy(EXAMPLE_ENTRY)
    holder = body
    for key in path[:-1]:
        holder = holder[key]
    holder[path[-1]] = value
    return dict(body)


PATHS = [path for path, _ in places(EXAMPLE_ENTRY)]


@given(st.sampled_from(PATHS), json_values)
def test_whatever_stands_in_a_field_is_taken_or_refused(path: tuple[Any, ...], value: Any) -> None:
    with suppress(ValidationError):
        entry = EntryIn.model_validate(with_value(path, value))
        assert EntryIn.model_validate_json(entry.model_dump_json()) == entry


@pytest.mark.parametrize("path", PATHS, ids=str)
def test_no_refusal_repeats_what_was_sent(path: tuple[Any, ...]) -> None:
    for canary in ("canary\x01", ["canary"], {"canary!": "canary"}, 4_242_424_242):
        for refusal in refusals(with_value(path, canary)):
            for error in refusal.errors(include_url=False, include_input=False):
                place = [] if error["type"] == "extra_forbidden" else error["loc"]
                told = f"{place}{error['type']}{error['msg']}{error.get('ctx')}"
                assert "canary" not in told
                assert "4242424242" not in told


@pytest.mark.parametrize("path", [(), *(p for p, inside in places(EXAMPLE_ENTRY) if isinstance(inside, dict))], ids=str)
def test_an_unknown_member_is_refused_at_every_level(path: tuple[Any, ...]) -> None:
    holder: Any = EXAMPLE_ENTRY
    for key in path:
        holder = holder[key]
    more = holder | {"canary": 1}
    assert [code for _, code in faults(with_value(path, more) if path else more)] == ["extra_forbidden"]


@pytest.mark.parametrize("member", SERVER_FIELDS)
def test_a_phone_cannot_set_what_the_server_owns(member: str) -> None:
    assert faults(MINIMAL_ENTRY | {member: SERVER_FIELDS[member]}) == [(f"/{member}", "extra_forbidden")]


@pytest.mark.parametrize(
    ("vocabulary", "member"),
    [
        ("body_regions", lambda code: {"sites": [scored(1) | {"region": code}]}),
        ("body_regions", lambda code: {"sites": [scored(1) | {"radiates_to": [code]}]}),
        ("pain_characters", lambda code: {"sites": [scored(1) | {"characters": [code]}]}),
        ("triggers", lambda code: {"triggers": [{"code": code}]}),
        ("relief_factors", lambda code: {"relief": [{"code": code}]}),
        ("associated_symptoms", lambda code: {"associated_symptoms": [{"code": code}]}),
        ("red_flags", lambda code: {"red_flags": [{"code": code, "present": True}]}),
        ("pain_scales", lambda code: {"sites": [scored(0, scale=code)]}),
        ("severities", lambda code: {"associated_symptoms": [{"code": "nausea", "severity": code}]}),
        ("courses", lambda code: {"mood": 1, "course": code}),
        ("clinical_courses", lambda code: {"mood": 1, "clinical_course": code}),
    ],
)
def test_every_code_of_its_vocabulary_is_taken_and_no_other(vocabulary: str, member: Any) -> None:
    for code in vocabularies.load(vocabulary).codes:
        performer = "caregiver" if code in {"flacc", "painad"} else "self"
        EntryIn.model_validate({**ENVELOPE, "performer": performer, **member(code)})
    none = [] if vocabulary in ("severities", "courses", "clinical_courses") else [None]
    for other in ("", "nowhere", "CHEST_LEFT", "chest_left ", 0, ["chest_left"], *none):
        assert [kind for _, kind in faults(ENVELOPE | member(other))] == ["unknown_code"]


@pytest.mark.parametrize("scale", SCALES.values(), ids=SCALES)
def test_a_score_is_taken_exactly_on_the_steps_of_its_scale(scale: Any) -> None:
    body = ENVELOPE | {"performer": min(scale.performers - {"clinician_observer"}), "mood": 5}
    steps = set(range(int(scale.minimum), int(scale.maximum) + 1, int(scale.step)))
    for value in range(101):
        score = {"sites": [scored(value, scale=scale.code)]}
        if value in steps:
            EntryIn.model_validate(body | score)
        else:
            assert faults(body | score)[0][0] == "/sites/0/scores/0/value"


@pytest.mark.parametrize(
    ("members", "told"),
    [
        ({"sites": [scored(11)]}, [("/sites/0/scores/0/value", "outside_scale")]),
        ({"sites": [scored(3, scale="faces_fps_r")]}, [("/sites/0/scores/0/value", "off_step")]),
        (
            {"sites": [scored(4, scale="faces_fps_r", measure="worst")]},
            [("/sites/0/scores/0/measure", "measure_not_offered")],
        ),
        ({"sites": [scored(4, scale="flacc")]}, [("/sites/0/scores/0/scale", "performer_not_offered")]),
        (
            {"performer": "caregiver", "sites": [scored(4, scale="vas_0_100_mm")]},
            [("/sites/0/scores/0/scale", "performer_not_offered")],
        ),
        (
            {"sites": [SITE, scored(11), scored(5, scale="vrs_4") | {"region": "jaw_left"}]},
            [("/sites/1/scores/0/value", "outside_scale"), ("/sites/2/scores/0/value", "outside_scale")],
        ),
        ({"sites": [SITE | {"scores": SITE["scores"] * 5}]}, [("/sites/0/scores", "too_long")]),
        ({"sites": [SITE | {"scores": None}]}, [("/sites/0/scores", "list_type")]),
        ({"sites": [SITE | {"region": "other"}] * 2}, [("/sites/1", "duplicate")]),
        ({"sites": [SITE | {"scores": SITE["scores"] * 2}]}, [("/sites/0/scores/1", "duplicate")]),
        ({"sites": [SITE, SITE]}, [("/sites/1", "duplicate")]),
        ({"sites": [SITE | {"characters": ["dull", "dull"]}]}, [("/sites/0/characters/1", "duplicate")]),
        ({"sites": [SITE | {"radiates_to": ["face_left"] * 2}]}, [("/sites/0/radiates_to/1", "duplicate")]),
        ({"sites": [SITE] * 21}, [("/sites", "too_long")]),
        ({"triggers": [{"code": "cold"}, {"code": "cold", "effect": "slight"}]}, [("/triggers/1", "duplicate")]),
        ({"relief": [{"code": "heat"}, {"code": "heat"}]}, [("/relief/1", "duplicate")]),
        ({"red_flags": [{"code": "chest", "present": p} for p in (True, False)]}, [("/red_flags/1", "duplicate")]),
        ({"red_flags": [{"code": "chest"}]}, [("/red_flags/0/present", "missing")]),
        ({"triggers": [{"code": "cold", "effect": "none"}]}, [("/triggers/0/effect", "literal_error")]),
        ({"ended_at": "2026-03-29T07:59:59+02:00"}, [("/ended_at", "ended_before_start")]),
        ({"ended_at": "2026-03-29T08:30:00+03:00"}, [("/ended_at", "ended_before_start")]),
        ({"ended_at": "2027-03-29T08:00:01+02:00"}, [("/ended_at", "too_long")]),
        ({"ended_at": "2026-03-29T09:00:00+02:00", "ongoing": True}, [("/ongoing", "contradiction")]),
        (
            {"ended_at": "2026-03-29T09:00:00+02:00", "duration_minutes": 60},
            [("/duration_minutes", "contradiction")],
        ),
        ({"ongoing": True, "duration_minutes": -1}, [("/duration_minutes", "greater_than_equal")]),
        ({"duration_minutes": 525_601}, [("/duration_minutes", "less_than_equal")]),
        ({"no_pain": True}, [("/no_pain", "contradiction")]),
        ({"no_pain": True, "sites": [scored(0), UNSCORED]}, [("/no_pain", "contradiction")]),
        (
            {"associated_symptoms": [{"code": "fever"}, {"code": "nausea", "present": False, "severity": "mild"}]},
            [("/associated_symptoms/1/severity", "contradiction")],
        ),
        (
            {"associated_symptoms": [{"code": "fever", "present": None}]},
            [("/associated_symptoms/0/present", "bool_type")],
        ),
        ({"associated_symptoms": [{"code": "fever", "present": p} for p in (True, False)]},
         [("/associated_symptoms/1", "duplicate")]),
        ({"associated_symptoms": [{"code": "fever", "severity": "fatal"}]},
         [("/associated_symptoms/0/severity", "unknown_code")]),
        ({"course": "cured"}, [("/course", "unknown_code")]),
        ({"clinical_course": "acute"}, [("/clinical_course", "unknown_code")]),
        ({"episode_id": "attack-7"}, [("/episode_id", "uuid")]),
        ({"mood": 11}, [("/mood", "less_than_equal")]),
        ({"interference": {"walking": -1}}, [("/interference/walking", "greater_than_equal")]),
        ({"sleep": {"hours": 24.5}}, [("/sleep/hours", "less_than_equal")]),
        ({"sleep": {"awakenings": 51}}, [("/sleep/awakenings", "less_than_equal")]),
        ({"note": "x" * 4001}, [("/note", "text")]),
        ({"entry_mode": "streak"}, [("/entry_mode", "literal_error")]),
        ({"source": {"app": "two\nlines"}}, [("/source/app", "text")]),
        ({"sites": None}, [("/sites", "list_type")]),
    ],
)  # fmt: skip
def test_a_refusal_points_at_the_place(members: dict[str, Any], told: list[tuple[str, str]]) -> None:
    assert faults(MINIMAL_ENTRY | members) == told


def test_all_contradictions_are_told_at_once() -> None:
    contradictions = {"ongoing": True, "duration_minutes": 4, "no_pain": True}
    body = MINIMAL_ENTRY | {"ended_at": "2026-01-01T00:00:00Z"} | contradictions
    assert [pointer for pointer, _ in faults(body)] == ["/duration_minutes", "/ongoing", "/ended_at", "/no_pain"]


@pytest.mark.parametrize(
    "members",
    [
        {"sites": [SITE, SITE | {"depth": "deep"}, SITE | {"depth": "both"}]},
        {"ended_at": MINIMAL_ENTRY["occurred_at"]},
        {"ended_at": "2027-03-29T08:00:00+02:00"},
        {"ongoing": True},
        {"ongoing": True, "duration_minutes": 180},
        {"duration_minutes": 525_600},
        {"sites": [scored(4) | {"region": "unspecified"}]},
        {"sites": [UNSCORED, SITE]},
        {"sites": [UNSCORED | {"scores": [], "characters": ["burning"]}]},
        {"sites": [UNSCORED | {"region": "other", "depth": depth} for depth in ("deep", "superficial")]},
        {"associated_symptoms": [{"code": "fever", "present": False}, {"code": "nausea", "severity": "severe"}]},
        {"course": "resolved", "clinical_course": "chronic"},
        {"episode_id": ENVELOPE["id"], "ongoing": True},
        {"no_pain": True, "sites": []},
        {"no_pain": True, "sites": [scored(0)]},
        {"no_pain": False, "sites": [scored(0)]},
        {"relief": [{"code": "medication"}, {"code": "medication", "treatment_event_id": ENVELOPE["id"]}]},
        {"note": "\U0001f600" * 4000},
        {"recorded_at": None, "source": None, "note": None, "sleep": None},
    ],
)  # fmt: skip
def test_what_does_not_contradict_itself_is_taken(members: dict[str, Any]) -> None:
    EntryIn.model_validate(MINIMAL_ENTRY | members)


@pytest.mark.parametrize(
    "members",
    [
        {"no_pain": True},
        {"sites": [scored(0)]},
        {"sites": [UNSCORED]},
        {"note": "Hm."},
        {"mood": 0},
        {"interference": {"work": 0}},
        {"sleep": {"awakenings": 0}},
        {"triggers": [{"code": "stress"}]},
        {"relief": [{"code": "rest"}]},
        {"associated_symptoms": [{"code": "fatigue"}]},
        {"associated_symptoms": [{"code": "fatigue", "present": False}]},
        {"red_flags": [{"code": "chest", "present": False}]},
    ],
)
def test_one_observation_is_enough(members: dict[str, Any]) -> None:
    EntryIn.model_validate(ENVELOPE | members)


@pytest.mark.parametrize(
    "members",
    [
        {},
        {"sites": [], "no_pain": False},
        {"pattern": "constant", "onset": "sudden", "course": "stable", "ongoing": True},
        {"duration_minutes": 5},
        {"interference": {}, "sleep": {"hours": None}},
        {"pain_problem_id": MINIMAL_ENTRY["id"]},
        {"episode_id": MINIMAL_ENTRY["id"], "clinical_course": "chronic"},
    ],
)
def test_an_entry_must_say_something(members: dict[str, Any]) -> None:
    assert faults(ENVELOPE | members) == [("", "says_nothing")]


def test_put_carries_no_id() -> None:
    fields = {k: v for k, v in MINIMAL_ENTRY.items() if k != "id"}
    assert EntryFields.model_validate(fields).sites[0].scores[0].value == 6
    assert faults(MINIMAL_ENTRY, EntryFields) == [("/id", "extra_forbidden")]
    assert faults(fields) == [("/id", "missing")]


def test_a_patch_knows_every_field_of_an_entry_and_no_other() -> None:
    assert set(EntryPatch.model_fields) == set(EntryFields.model_fields)
    everything = dict.fromkeys(EntryFields.model_fields)
    assert EntryPatch.model_validate(everything).model_dump(exclude_unset=True) == everything
    assert faults({"id": MINIMAL_ENTRY["id"]}, EntryPatch) == [("/id", "extra_forbidden")]
    assert faults({"sites": [{}]}, EntryPatch) == [("/sites/0/region", "missing")]


def test_a_patch_may_delete_inside_an_object_and_is_not_judged_as_an_entry() -> None:
    patch = {"sleep": {"hours": None}, "no_pain": True, "ongoing": True, "ended_at": "1999-01-01T00:00:00Z"}
    assert EntryPatch.model_validate(patch).model_dump(exclude_unset=True) == patch


def test_an_answered_entry_has_the_envelope_beside_its_fields() -> None:
    answered = EXAMPLE_ENTRY | SERVER_FIELDS
    entry = EntryOut.model_validate_json(json.dumps(answered))
    assert entry.model_dump(exclude_none=True) == answered
    assert (entry.local_date, entry.received_at) == (
        date(2026, 3, 29),
        datetime(2026, 3, 29, 19, 5, 14, tzinfo=UTC),
    )


def test_an_entry_whose_note_is_hidden_is_still_an_answer() -> None:
    EntryOut.model_validate(ENVELOPE | SERVER_FIELDS)


def test_pages_end_with_a_null_cursor() -> None:
    entry = EXAMPLE_ENTRY | SERVER_FIELDS
    ENTRY.page.model_validate({"items": [entry], "next_cursor": None})
    version = {k: SERVER_FIELDS[k] for k in ("version", "change_seq", "deleted", "author_id", "received_at")}
    page = {"items": [version | {"deleted": True}, version | {"device_name": "Pixel 9", "record": entry}]}
    ENTRY.history.model_validate(page | {"next_cursor": "c"})
    assert faults(page, ENTRY.history) == [("/next_cursor", "missing")]


def test_generated_clients_get_one_plain_name_for_each_type() -> None:
    app = FastAPI()

    @app.put("/entries", response_model=ENTRY.page)
    async def replace(body: EntryFields) -> None: ...

    @app.patch("/entries", response_model=EntryOut)
    async def revise(body: EntryPatch) -> None: ...

    @app.post("/entries", response_model=EntryOut)
    async def create(body: EntryIn) -> None: ...

    @app.get("/versions", response_model=ENTRY.history)
    async def versions(region: entries.Region | None = None) -> None: ...

    names = set(app.openapi()["components"]["schemas"])
    assert {"Region", "PainScale", "Performer", "Site", "Score", "EntryPatch", "EntryOut", "EntryVersion"} <= names
    assert [name for name in names if not name.isalnum()] == []
