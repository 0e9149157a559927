"""What is refused is told in sentences: no pattern of the OpenAPI document ever reaches a person."""

import json
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from fastapi import FastAPI
from pydantic import BaseModel

from app.errors import Invalid
from app.http import validation
from app.schemas.base import Strict
from tests.people import Phone

pytestmark = pytest.mark.anyio

SENT = ("\x01", ["\x01"], [{"\x01": 1}])


def patterns(value: Any) -> Iterator[str]:
    """Every pattern inside of a part of the document."""
    if isinstance(value, dict):
        yield from (one for one in [value.get("pattern")] if isinstance(one, str))
        for inner in value.values():
            yield from patterns(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from patterns(inner)


def models(root: type[BaseModel] = Strict) -> Iterator[type[BaseModel]]:
    for one in root.__subclasses__():
        yield one
        yield from models(one)


def is_sentence(detail: str, all_patterns: set[str]) -> bool:
    return detail.endswith(".") and detail[0].isupper() and not any(one in detail for one in all_patterns)


async def test_no_body_is_refused_with_a_pattern(app: FastAPI) -> None:
    document = app.openapi()
    all_patterns = {*patterns(document)}
    named = {model.__name__: model for model in models()}
    seen = 0
    for name, schema in document["components"]["schemas"].items():
        for member in schema.get("properties", {}):
            if name not in named or not {*patterns(schema["properties"][member])}:
                continue
            for sent in SENT:
                with pytest.raises(Invalid) as refusal:
                    validation.validated(named[name], {member: sent})
                details = [fault.detail for fault in refusal.value.faults]
                assert all(is_sentence(detail, all_patterns) for detail in details), (name, member, details)
                seen += 1
    assert seen > 100


async def test_no_parameter_is_refused_with_a_pattern(app: FastAPI, ada: Phone) -> None:
    document = app.openapi()
    all_patterns = {*patterns(document)}
    asked: list[httpx.Response] = []
    for path, operations in document["paths"].items():
        for method, operation in operations.items():
            for parameter in operation.get("parameters", ()):
                if not {*patterns(parameter)}:
                    continue
                given = {parameter["name"]: "no such thing"}
                where: dict[str, Any] = {"headers": given} if parameter["in"] == "header" else {"params": given}
                address = path.replace("{patient_id}", ada.patient_id)
                asked.append(await ada.http.request(method, address, **where))
    assert len(asked) >= 2
    for answer in asked:
        faults = answer.json()["errors"]
        assert answer.status_code == 422, answer.text
        assert all(is_sentence(fault["detail"], all_patterns) for fault in faults), json.dumps(faults)


async def test_what_should_be_an_object_is_said_so_and_no_word_of_python(ada: Phone) -> None:
    bodies: tuple[dict[str, Any], ...] = ({"sites": ["head"]}, {"sites": [[1]]}, {"sleep": "well"}, {"source": []})
    for members in bodies:
        refused = await ada.log(**members)
        assert [fault["detail"] for fault in refused.json()["errors"]] == ["Input should be an object."], members
