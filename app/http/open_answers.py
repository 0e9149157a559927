"""Answers as the OpenAPI document tells of them: open, so that a client of today reads what a later release adds.

Requests are strict, and their schemas say so: no unknown member, codes of a list, bounds. Of an answer a client may
rely on the members that are required, on types, and on the constants that tell kinds apart. What may change without
notice (docs/integrate.md) is only mentioned: codes as `x-extensible-enum`, bounds not at all. A schema that requests
and answers share is in the document twice, and the answers' is named `…Out`; but a list of codes is one, open in both:
who writes back a record sends codes that came after the client (the server refuses those that it does not know).
"""

from collections.abc import Iterable, Iterator
from typing import Any

Schema = dict[str, Any]

PREFIX = "#/components/schemas/"
BOUNDS = {"minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf"}
BOUNDS |= {"pattern", "minLength", "maxLength", "minItems", "maxItems", "uniqueItems"}
NULL = {"type": "null"}


def open_answers(document: dict[str, Any]) -> None:
    """Opens every schema of the document that is answered, in place; those that are sent too are parted before."""
    schemas = document["components"]["schemas"]
    operations = [one for path in document["paths"].values() for one in path.values()]
    responses = [media for one in operations for media in _contents(one["responses"].values())]
    bodies = [media for one in operations for media in _contents([one.get("requestBody", {})])]
    parameters = [parameter for one in operations for parameter in one.get("parameters", ())]
    sent, answered = _reached(schemas, [bodies, parameters]), _reached(schemas, responses)
    codes = {name for name in answered if "enum" in schemas[name]}
    names = {name: f"{name}Out" if name in sent - codes else name for name in answered}
    opened = {names[name]: _opened(schemas[name], names) | {"title": names[name]} for name in answered}
    if len(opened) < len(answered) or opened.keys() & sent - codes:
        raise ValueError("two schemas of the document have one name")
    for media in responses:
        if "schema" in media:
            media["schema"] = _opened(media["schema"], names)
    both = {name: schemas[name] for name in sent} | opened
    document["components"]["schemas"] = dict(sorted(both.items()))


def _contents(holders: Iterable[Schema]) -> Iterator[Schema]:
    return (media for holder in holders for media in holder.get("content", {}).values())


def _reached(schemas: Schema, start: object) -> set[str]:
    """The names of the schemas that these refer to, and those refer to."""
    found: set[str] = set()
    waiting = list(_references(start))
    while waiting:
        name = waiting.pop()
        if name not in found:
            found.add(name)
            waiting += _references(schemas[name])
    return found


def _references(value: object) -> Iterator[str]:
    if isinstance(value, dict):
        if "$ref" in value:
            yield value["$ref"].removeprefix(PREFIX)
        for key, inner in value.items():
            if key not in ("example", "examples", "headers"):
                yield from _references(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from _references(inner)


def _opened(schema: Schema, names: dict[str, str]) -> Schema:
    """The schema as a client may rely on it."""
    kept = {key: value for key, value in schema.items() if key not in BOUNDS}
    if kept.get("additionalProperties") is False:
        del kept["additionalProperties"]
    if "$ref" in kept:
        kept["$ref"] = PREFIX + names[kept["$ref"].removeprefix(PREFIX)]
    if "enum" in kept:
        kept["x-extensible-enum"] = kept.pop("enum")
    if "properties" in kept:
        required = kept.get("required", ())
        kept["properties"] = {
            name: _opened(member if name in required else _present(member), names)
            for name, member in kept["properties"].items()
        }
    for key in ("items", "additionalProperties"):
        if isinstance(kept.get(key), dict):
            kept[key] = _opened(kept[key], names)
    for key in ("anyOf", "oneOf"):
        if key in kept:
            kept[key] = [_opened(one, names) for one in kept[key]]
    if mapping := kept.get("discriminator", {}).get("mapping"):
        told = {kind: PREFIX + names[place.removeprefix(PREFIX)] for kind, place in mapping.items()}
        kept["discriminator"] = kept["discriminator"] | {"mapping": told}
    return kept


def _present(member: Schema) -> Schema:
    """What an optional member is where it is there at all: never null, for what is not known is left out."""
    choices = [one for one in member.get("anyOf", ()) if one != NULL]
    if len(choices) == len(member.get("anyOf", ())):
        return member
    rest = {key: value for key, value in member.items() if key not in ("anyOf", "default")}
    return choices[0] | rest if len(choices) == 1 else rest | {"anyOf": choices}
