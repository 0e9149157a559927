"""What came later is marked: so an older client drops nothing of it, and a newer one gets what it had passed over."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import pytest
from pydantic import Field, SecretStr

from app.config import Settings
from app.http.validation import validated
from app.main import create_app
from app.schemas.base import Distinct, Strict, listed
from app.schemas.since import SCHEMA, Since, keep_newer, newest, servers_own
from openapi import check

RELEASED: dict[str, Any] = json.loads(check.RELEASED.read_text())


def members(document: dict[str, Any]) -> dict[str, int]:
    """What a client may say of each kind of record: the paths of its members, each with the number it came with."""
    schemas = document["components"]["schemas"]
    return {
        path: since
        for kind, place in schemas["AnyMutation"]["discriminator"]["mapping"].items()
        for path, since in _inside(document, schemas[place.rpartition("/")[2]]["properties"]["data"], kind)
    }


def _inside(document: dict[str, Any], schema: Any, path: str) -> Iterator[tuple[str, int]]:
    if "$ref" in schema:
        named = document["components"]["schemas"][schema["$ref"].rpartition("/")[2]]
        yield from _inside(document, named, path)
    for choice in (*schema.get("anyOf", ()), *schema.get("oneOf", ())):
        yield from _inside(document, choice, path)
    if "items" in schema:
        yield from _inside(document, schema["items"], f"{path}/[]")
    for name, member in schema.get("properties", {}).items():
        yield f"{path}/{name}", member.get("x-since", 1)
        yield from _inside(document, member, f"{path}/{name}")


def check_numbers(released: dict[str, Any], document: dict[str, Any]) -> None:
    """Fails where a kind or member is new and has no number of its own."""
    number, now = released["info"]["x-record-schema"], document["info"]["x-record-schema"]
    known = members(released)
    new = {path: since for path, since in members(document).items() if path not in known}
    assert now == number + bool(new), f"{sorted(new)} are new: make SCHEMA of app/schemas/since.py {number + 1}"
    unmarked = [path for path, since in new.items() if since <= number and path.partition("/")[0] in _kinds(known)]
    assert unmarked == [], f"Annotate them with Since({number + 1})"
    assert {path: since for path, since in members(document).items() if path in known} == known
    taken = {path.partition("/")[2] for path in members(document)}
    added = _answered(document) - _answered(released)
    assert added <= taken, "Who keeps what the server adds would be refused: declare it in the fields as servers_own()"


def _answered(document: dict[str, Any]) -> set[str]:
    """The members of the records of a document, whatever their kind."""
    schemas = document["components"]["schemas"]
    places = schemas["KnownRecord"]["discriminator"]["mapping"].values()
    return {name for place in places for name in schemas[place.rpartition("/")[2]]["properties"]}


def _kinds(known: dict[str, int]) -> set[str]:
    return {path.partition("/")[0] for path in known}


def test_what_is_new_since_the_last_release_has_the_number_of_the_next(tmp_path: Path) -> None:
    settings = Settings(environment="development", database_url=SecretStr("postgresql://"), state_directory=tmp_path)
    document = json.loads(json.dumps(create_app(settings).openapi()))
    assert document["info"]["x-record-schema"] == SCHEMA
    assert len(members(document)) > 100
    check_numbers(RELEASED, document)


@pytest.mark.parametrize(("number", "since", "right"), [(1, {}, False), (2, {}, False), (2, {"x-since": 2}, True)])
def test_a_member_without_a_number_is_found(number: int, since: dict[str, int], right: bool) -> None:
    document = json.loads(json.dumps(RELEASED))
    document["info"]["x-record-schema"] += number - 1
    document["components"]["schemas"]["Site"]["properties"]["laterality"] = {"type": "string"} | since
    if right:
        check_numbers(RELEASED, document)
    else:
        with pytest.raises(AssertionError, match=r"laterality|Since"):
            check_numbers(RELEASED, document)


class Place(Strict):
    """As of schema 2."""

    region: str
    depth: str | None = None
    warmth: Annotated[str | None, Since(2)] = None


class Night(Strict):
    hours: int | None = None
    dreams: Annotated[str | None, Since(3)] = None


class Fields(Strict):
    mood: int | None = None
    weather: Annotated[str | None, Since(2)] = None
    night: Night | None = None
    places: Annotated[list[Place], Distinct("region")] = listed()
    others: list[Place] = Field(default_factory=list)


HELD = {
    "mood": 5,
    "weather": "rain",
    "night": {"hours": 7, "dreams": "of flying"},
    "places": [{"region": "knee", "warmth": "hot"}, {"region": "neck", "depth": "deep", "warmth": "cold"}],
    "others": [{"region": "hand", "warmth": "hot"}, {"region": "foot", "warmth": "cold"}],
}


def kept(known: int, **sent: Any) -> dict[str, Any]:
    """What a PUT by a client that knows this schema makes of HELD."""
    body = Fields.model_validate(sent)
    made = body.model_dump(mode="json", exclude_none=True)
    keep_newer(body, made, HELD, known)
    return validated(Fields, made).model_dump(mode="json", exclude_none=True)


def test_a_record_knows_the_number_of_its_newest_member() -> None:
    assert (newest(Fields), newest(Place)) == (3, 2)


def test_what_a_client_did_not_know_stays() -> None:
    assert kept(1, mood=4) == {"mood": 4, "weather": "rain", "places": [], "others": []}
    assert kept(1, night={"hours": 8})["night"] == {"hours": 8, "dreams": "of flying"}


def test_what_a_client_knew_and_left_out_goes() -> None:
    assert "weather" not in kept(2, mood=4)
    assert kept(2, night={"hours": 8})["night"] == {"hours": 8, "dreams": "of flying"}
    assert kept(3, night={"hours": 8})["night"] == {"hours": 8}


def test_what_is_said_explicitly_counts_whatever_the_client_knows() -> None:
    assert "weather" not in kept(1, weather=None)
    assert kept(1, weather="sun")["weather"] == "sun"


def test_an_item_of_a_list_keeps_its_own_as_long_as_it_is_the_same() -> None:
    places = [{"region": "neck", "depth": "superficial"}, {"region": "toe"}]
    assert kept(1, places=places)["places"] == [places[0] | {"warmth": "cold"}, places[1]]
    others = [{"region": "foot"}, {"region": "hand", "depth": "deep"}]
    assert kept(1, others=others)["others"] == [others[0] | {"warmth": "cold"}, others[1]]


def test_what_the_server_adds_later_is_taken_from_those_who_send_it_back() -> None:
    class Later(Strict):
        mood: int | None = None
        triaged: Annotated[Any, Since(2)] = servers_own()

    body = Later.model_validate({"mood": 4, "triaged": {"by": "nobody"}})
    assert body.model_dump(exclude_none=True) == {"mood": 4}
    document = json.loads(json.dumps(RELEASED))
    document["components"]["schemas"]["EntryOut"]["properties"]["triaged"] = {"type": "boolean"}
    with pytest.raises(AssertionError, match="servers_own"):
        check_numbers(RELEASED, document)
