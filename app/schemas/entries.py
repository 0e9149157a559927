"""The diary entry on the wire: how it hurts, where, and what came with it."""

from collections.abc import Iterator
from typing import Annotated, Literal, Self

from pydantic import ConfigDict, Field, model_validator
from typing_extensions import TypeAliasType

from app import vocabularies
from app.domain import scales
from app.domain.entries import facts, scale_ages
from app.schemas.base import BodyFault, CodeOf, Distinct, Instant, Json, RecordId, Strict, listed, partial, refuse
from app.schemas.envelope import Note, RecordFields, RecordKey, RecordOut, example_stored
from app.schemas.records import Facts, RecordKind

SCALES = {scale.code: scale for scale in map(scales.scale_of, vocabularies.load("pain_scales").rows)}
LONGEST_MINUTES = 525_600  # a year

Region = TypeAliasType("Region", Annotated[str, CodeOf("body_regions")])
Character = TypeAliasType("Character", Annotated[str, CodeOf("pain_characters")])
PainScale = TypeAliasType("PainScale", Annotated[str, CodeOf("pain_scales")])
TriggerCode = TypeAliasType("TriggerCode", Annotated[str, CodeOf("triggers")])
ReliefCode = TypeAliasType("ReliefCode", Annotated[str, CodeOf("relief_factors")])
SymptomCode = TypeAliasType("SymptomCode", Annotated[str, CodeOf("associated_symptoms")])
RedFlagCode = TypeAliasType("RedFlagCode", Annotated[str, CodeOf("red_flags")])
Measure = TypeAliasType("Measure", Literal["now", "worst", "least", "average"])
Severity = TypeAliasType("Severity", Annotated[str, CodeOf("severities")])
Depth = TypeAliasType("Depth", Literal["superficial", "deep", "both"])
Worsening = TypeAliasType("Worsening", Literal["slight", "moderate", "strong"])
ReliefRating = TypeAliasType("ReliefRating", Literal["none", "some", "good", "complete"])
Pattern = TypeAliasType("Pattern", Literal["constant", "intermittent", "breakthrough", "episodic"])
Onset = TypeAliasType("Onset", Literal["sudden", "gradual"])
Course = TypeAliasType("Course", Annotated[str, CodeOf("courses")])
ClinicalCourse = TypeAliasType("ClinicalCourse", Annotated[str, CodeOf("clinical_courses")])
EntryMode = TypeAliasType("EntryMode", Literal["momentary", "end_of_day", "recall", "backfill", "imported"])
Rating = Annotated[int, Field(ge=0, le=10)]

MINIMAL_ENTRY: Json = {
    "id": "0195d3f4-8e2a-7c31-9b1e-5a2f6c7d8e90",
    "occurred_at": "2026-03-29T08:00:00+02:00",
    "time_zone": "Europe/Berlin",
    "sites": [
        {"region": "lower_back_left", "scores": [{"measure": "now", "scale": "nrs_0_10", "value": 6}]},
    ],
}
EXAMPLE_ENTRY: Json = {
    "id": "0195d3f4-9a41-7d02-8c5f-1b7e20c4a6d3",
    "occurred_at": "2026-03-29T18:30:00+02:00",
    "time_zone": "Europe/Berlin",
    "occurred_precision": "minute",
    "recorded_at": "2026-03-29T21:05:12+02:00",
    "performer": "self",
    "source": {"app": "diary-phone", "app_version": "1.4.0", "device_model": "Pixel 9", "schema_version": 1},
    "entry_mode": "end_of_day",
    "ended_at": "2026-03-29T20:15:00+02:00",
    "ongoing": False,
    "no_pain": False,
    "sites": [
        {
            "region": "lower_back_left",
            "depth": "deep",
            "scores": [
                {"measure": "worst", "scale": "nrs_0_10", "value": 8},
                {"measure": "average", "scale": "nrs_0_10", "value": 5},
            ],
            "characters": ["aching", "stabbing"],
            "radiates_to": ["buttock_left", "thigh_back_left"],
        },
        {
            "region": "neck_back_right",
            "scores": [{"measure": "worst", "scale": "nrs_0_10", "value": 3}],
            "characters": ["tight"],
            "radiates_to": [],
        },
        {"region": "other", "scores": [], "characters": ["numb"], "radiates_to": []},
    ],
    "pattern": "intermittent",
    "onset": "gradual",
    "course": "improving",
    "clinical_course": "acute_on_chronic",
    "triggers": [{"code": "sitting", "effect": "strong"}, {"code": "poor_sleep"}],
    "relief": [
        {
            "code": "medication",
            "effect": "good",
            "treatment_event_id": "0195d3f4-9b07-7e55-a3d8-4c1f0e2b9a76",
            "minutes_to_effect": 40,
        },
        {"code": "heat", "effect": "some"},
    ],
    "associated_symptoms": [
        {"code": "stiffness", "severity": "moderate", "present": True},
        {"code": "fatigue", "present": True},
        {"code": "fever", "present": False},
    ],
    "red_flags": [{"code": "cauda_equina", "present": False}],
    "interference": {"general_activity": 6, "walking": 4, "work": 7, "sleep": 5},
    "sleep": {"hours": 6.5, "quality": 4, "awakenings": 2},
    "mood": 5,
    "note": "Long meeting, no break. Better after the walk home. The scar of the operation feels numb.",
    "pain_problem_id": "0195d3f4-7d10-7a9c-b2e6-8f3a5d4c1b20",
    "episode_id": "0195d3f4-8e2a-7c31-9b1e-5a2f6c7d8e90",
}
STORED_ENTRY = example_stored("entry", EXAMPLE_ENTRY) | {"outside_validated_age": []}


class Score(Strict):
    """One number: which measure, on which scale."""

    measure: Measure = Field(description="Pain now, or the worst, least or average of the time the entry is about.")
    scale: PainScale
    value: int = Field(ge=0, le=100, description="Within the scale's `min`, `max` and `step`.", examples=[6])


class Site(Strict):
    """One place that hurts, or one that was asked about and scored 0."""

    region: Region = Field(
        description="`unspecified`: a score without a place. `other`: one that is not in the list; the note says which."
    )
    depth: Depth | None = None
    scores: Annotated[list[Score], Distinct("measure", "scale")] = listed(
        max_length=4, description="How much. Without any the place hurts, and nobody said how much."
    )
    characters: Annotated[list[Character], Distinct()] = listed(max_length=32)
    radiates_to: Annotated[list[Region], Distinct()] = listed(max_length=20)


class Trigger(Strict):
    """What set the pain off or made it worse, as the patient sees it."""

    code: TriggerCode
    effect: Worsening | None = Field(default=None, description="How much it worsened.")


class Relief(Strict):
    """What was tried against the pain, and how well it helped."""

    code: ReliefCode
    effect: ReliefRating | None = Field(default=None, description="How much it helped.")
    treatment_event_id: RecordId | None = Field(
        default=None, description="The treatment event meant; it may arrive after the entry."
    )
    minutes_to_effect: int | None = Field(default=None, ge=0, le=10_080)


class Symptom(Strict):
    """A symptom that came with the pain, or one that was asked for and was not there; others are not listed."""

    code: SymptomCode
    severity: Severity | None = Field(default=None, description="Of a symptom that is there.")
    present: bool = Field(default=True, description="False: it was asked for, and was not there.")


class RedFlag(Strict):
    """The answer to a red-flag question; one that was not asked is not listed."""

    code: RedFlagCode
    present: bool


class Interference(Strict):
    """How much pain got in the way: 0 not at all, 10 completely; what was not asked is absent or null."""

    general_activity: Rating | None = None
    mood: Rating | None = None
    walking: Rating | None = None
    work: Rating | None = None
    relations: Rating | None = None
    sleep: Rating | None = None
    enjoyment: Rating | None = None


class Sleep(Strict):
    """The night before."""

    hours: float | None = Field(default=None, ge=0, le=24)
    quality: Rating | None = Field(default=None, description="0 worst, 10 best.")
    awakenings: int | None = Field(default=None, ge=0, le=50)


class EntryShape(RecordFields):
    """The members of an entry, without the rules between them."""

    entry_mode: EntryMode = Field(
        default="momentary",
        description="How it was asked: at the moment, at the day's end, from memory, added later, imported.",
    )
    ended_at: Instant | None = Field(
        default=None,
        description="When the pain ended: not before `occurred_at`, and within 525 600 minutes of it.",
    )
    ongoing: bool = Field(default=False, description="The pain goes on; excludes `ended_at`.")
    duration_minutes: int | None = Field(
        default=None,
        ge=0,
        le=LONGEST_MINUTES,
        description="How long it lasted, or of one that is `ongoing` has lasted so far; only without `ended_at`.",
    )
    no_pain: bool = Field(
        default=False,
        description="The patient says that nothing hurts: no sites, or each is scored, and 0.",
    )
    sites: Annotated[list[Site], Distinct("region", "depth")] = listed(
        max_length=20, description="Where it hurts; a region may come once for each depth."
    )
    pattern: Pattern | None = None
    onset: Onset | None = None
    course: Course | None = Field(default=None, description="How it is changing.")
    clinical_course: ClinicalCourse | None = Field(default=None, description="Whether it is a chronic pain.")
    triggers: Annotated[list[Trigger], Distinct("code")] = listed(max_length=32)
    relief: Annotated[list[Relief], Distinct("code", "treatment_event_id")] = listed(max_length=32)
    associated_symptoms: Annotated[list[Symptom], Distinct("code")] = listed(max_length=32)
    red_flags: Annotated[list[RedFlag], Distinct("code")] = listed(max_length=32)
    interference: Interference | None = None
    sleep: Sleep | None = None
    mood: Rating | None = Field(default=None, description="0 worst, 10 best.")
    note: Note | None = Field(
        default=None, description="Plain text in the patient's words; the only free text of an entry."
    )
    pain_problem_id: RecordId | None = Field(default=None, description="The lasting pain this entry belongs to.")
    episode_id: RecordId | None = Field(
        default=None,
        description="The attack or flare that this is a reading of: the same in all of its entries, in the first of "
        "them its own id or any other. Each reading is an entry of its own, with its own time.",
    )


class EntryFields(EntryShape):
    """A diary entry as PUT replaces it.

    It must say something: a site, `no_pain: true`, a note, or at least one trigger, relief, symptom, red-flag
    answer, interference, sleep or mood value. No entry, `no_pain: true` and a site scored 0 are three facts.
    """

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [{k: v for k, v in e.items() if k != "id"} for e in (MINIMAL_ENTRY, EXAMPLE_ENTRY)]
        }
    )

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        refuse((*_times(self), *_no_pain(self), *_symptoms(self), *_scores(self), *_silence(self)))
        return self


class EntryIn(EntryFields, RecordKey):
    """A new diary entry, with the id the phone chose. The smallest is a region and one score.

    It must say something: a site, `no_pain: true`, a note, or at least one trigger, relief, symptom, red-flag
    answer, interference, sleep or mood value. No entry, `no_pain: true` and a site scored 0 are three facts.
    """

    model_config = ConfigDict(json_schema_extra={"examples": [MINIMAL_ENTRY, EXAMPLE_ENTRY]})


@partial
class EntryPatch(EntryFields):
    """A merge patch (RFC 7396) of an entry: null deletes a field, lists are replaced whole.

    What it makes of the entry must be a valid entry.
    """

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"note": "Better after the walk home."}, {"ongoing": False, "mood": None}]}
    )


class EntryOut(EntryShape, RecordOut):
    """A diary entry as it is stored. Without the right to read notes, `note` is absent."""

    model_config = ConfigDict(json_schema_extra={"examples": [STORED_ENTRY]})

    kind: Literal["entry"]
    outside_validated_age: list[PainScale] = listed(
        description="Scales used here that are not validated for the patient's age; left out of figures.",
    )
    validated_age_unknown: list[PainScale] | None = Field(
        default=None,
        description="Where the birth date is not known to the day: scales of which nobody can tell; left out as well.",
    )


def _times(entry: EntryFields) -> Iterator[BodyFault]:
    """Start, end, going on and duration must not contradict each other."""
    if entry.duration_minutes is not None and entry.ended_at is not None:
        yield BodyFault(("duration_minutes",), "contradiction", "Give it only without ended_at.")
    if entry.ended_at is None:
        return
    if entry.ongoing:
        yield BodyFault(("ongoing",), "contradiction", "Pain that has ended_at is not ongoing.")
    seconds = (entry.ended_at - entry.occurred_at).total_seconds()
    if seconds < 0:
        yield BodyFault(("ended_at",), "ended_before_start", "It must not be before occurred_at.")
    if seconds > LONGEST_MINUTES * 60:
        yield BodyFault(("ended_at",), "too_long", "It must be within 525600 minutes of occurred_at.")


def _no_pain(entry: EntryFields) -> Iterator[BodyFault]:
    """Who says that nothing hurts scores no site above 0, and names none without a score."""
    if not entry.no_pain:
        return
    if any(score.value for site in entry.sites for score in site.scores):
        yield BodyFault(("no_pain",), "contradiction", "A site is scored above 0.")
    elif not all(site.scores for site in entry.sites):
        yield BodyFault(("no_pain",), "contradiction", "A site without a score hurts; score it 0 if it does not.")


def _symptoms(entry: EntryFields) -> Iterator[BodyFault]:
    """What is not there is not severe."""
    for index, symptom in enumerate(entry.associated_symptoms):
        if symptom.severity is not None and not symptom.present:
            place = ("associated_symptoms", index, "severity")
            yield BodyFault(place, "contradiction", "Give it only of a symptom that is present.")


def _scores(entry: EntryFields) -> Iterator[BodyFault]:
    """Each score must be one that its scale offers."""
    for i, site in enumerate(entry.sites):
        for j, score in enumerate(site.scores):
            fault = scales.fault(SCALES[score.scale], score.value, score.measure, entry.performer)
            if fault:
                member, code, sentence = fault
                yield BodyFault(("sites", i, "scores", j, member), code, sentence)


def _silence(entry: EntryFields) -> Iterator[BodyFault]:
    """An entry says something; when, how and for how long say nothing without what."""
    lists = entry.sites, entry.triggers, entry.relief, entry.associated_symptoms, entry.red_flags
    if entry.no_pain or entry.note or entry.mood is not None or any(lists):
        return
    if any(_answered(entry.interference)) or any(_answered(entry.sleep)):
        return
    yield BodyFault((), "says_nothing", "Give a site, no_pain, a note, or any other observation.")


def _answered(group: Strict | None) -> Iterator[bool]:
    """For each question of the group, whether it was answered."""
    return (value is not None for _, value in group or ())


def _facts(entry: EntryFields) -> Facts:
    """Regions, characters, scale, score and minutes; the birth dates let the database flag an age."""
    ages = scale_ages(entry, SCALES)
    return vars(facts(entry)) | {
        "scale_birth_dates": {code: (first.isoformat(), last.isoformat()) for code, (first, last) in ages.items()}
    }


ENTRY = RecordKind(
    name="entry",
    plural="entries",
    scope="entries",
    noun="an entry",
    about="Diary entries: log, correct, delete, read back.",
    holds="moment",
    fields=EntryFields,
    examples=(MINIMAL_ENTRY, EXAMPLE_ENTRY),
    facts=_facts,
    computed={"outside_validated_age": []},
    create=EntryIn,
    patch=EntryPatch,
    out=EntryOut,
)
