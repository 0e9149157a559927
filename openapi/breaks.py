"""What in an OpenAPI document breaks the clients that were written from an earlier one.

What a client sent then must still be taken, and what it gets now it must have been told of then. A client passes over
what it does not know (docs/integrate.md): new members of an answer, new codes and new kinds, told apart by a constant,
break nothing. Bounds of answers are not compared.
"""

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any, Literal

METHODS = ("get", "put", "post", "delete", "patch")
LOWER = ("minimum", "exclusiveMinimum", "minLength", "minItems")
UPPER = ("maximum", "exclusiveMaximum", "maxLength", "maxItems")
WORDS = re.compile(r"\(\w+(?:\|\w+)*\)")  # of a pattern: those that it lets choose from
EXACT = ("pattern", "format", "multipleOf", "uniqueItems")

Node = dict[str, Any]
Way = Literal["sent", "answered"]


def breaks(old: Node, new: Node) -> list[str]:
    """What breaks clients of the old document, as sentences in the order of the document."""
    return list(dict.fromkeys(Comparison(old, new).operations()))


@dataclass
class Comparison:
    """Two documents, and what was found in the schemas that have a name."""

    old: Node
    new: Node
    known: dict[tuple[str, Way], list[str]] = field(default_factory=dict)

    def operations(self) -> Iterator[str]:
        for path, operations in self.old["paths"].items():
            for method in filter(METHODS.__contains__, operations):
                now = self.new["paths"].get(path, {}).get(method)
                if now is None:
                    yield f"{method.upper()} {path} is gone"
                else:
                    yield from self._operation(operations[method], now)

    def _operation(self, old: Node, new: Node) -> Iterator[str]:
        name = old["operationId"]
        if new["operationId"] != name:
            yield f"{name} is called {new['operationId']} now"
        if new.get("security") and not old.get("security"):
            yield f"{name} asks for sign-in now"
        yield from self._parameters(name, _parameters(old), _parameters(new))
        asked, asks = old.get("requestBody", {}), new.get("requestBody", {})
        yield from _required(f"{name}: ", {"body": asked}, {"body": asks})
        yield from self._contents("sent", f"{name}: body", asked, asks)
        for status, answer in old["responses"].items():
            yield from self._answer(f"{name}: {status}", answer, new["responses"].get(status))

    def _parameters(self, name: str, old: dict[str, Node], new: dict[str, Node]) -> Iterator[str]:
        yield from _required(f"{name}: ", old, new)
        for parameter, described in old.items():
            place = f"{name}: {parameter}"
            if parameter not in new:
                yield f"{place} is gone"
            else:
                yield from self._schema("sent", place, _without_null(described), _without_null(new[parameter]))

    def _answer(self, place: str, old: Node, new: Node | None) -> Iterator[str]:
        if new is None:
            yield f"{place} is gone"
            return
        for header in old.get("headers", {}):
            if header not in new.get("headers", {}):
                yield f"{place}: header {header} is gone"
        yield from self._contents("answered", place, old, new)

    def _contents(self, way: Way, place: str, old: Node, new: Node) -> Iterator[str]:
        for kind, media in old.get("content", {}).items():
            now = new.get("content", {}).get(kind)
            if now is None:
                yield f"{place}: {kind} is gone"
            else:
                yield from self._schema(way, place, media.get("schema", {}), now.get("schema", {}))

    def _schema(self, way: Way, place: str, old: Node, new: Node) -> Iterator[str]:
        """A schema that has the same name in both is compared once for each way, and reported under its name."""
        name = old.get("$ref")
        if name is None or name != new.get("$ref"):
            yield from self._compared(way, place, old, new)
            return
        if (name, way) not in self.known:
            self.known[name, way] = []  # a schema may contain itself
            self.known[name, way] = list(self._compared(way, f"{_tail(name)} as {way}", old, new))
        yield from self.known[name, way]

    def _compared(self, way: Way, place: str, old: Node, new: Node) -> Iterator[str]:
        compare = self._sent if way == "sent" else self._answered
        yield from compare(place, list(_alternatives(self.old, old)), list(_alternatives(self.new, new)))

    def _sent(self, place: str, old: list[Node], new: list[Node]) -> Iterator[str]:
        """Whatever was taken must be taken."""
        for one in old:
            fitting = [other for other in new if _holds(other, one)]
            if not fitting:
                yield f"{place}: {_name(one)} is not taken any more"
            yield from _fewest(
                [*_narrower(place, one, other), *self._inner("sent", place, one, other)] for other in fitting
            )

    def _answered(self, place: str, old: list[Node], new: list[Node]) -> Iterator[str]:
        """Whatever is answered must have been told of."""
        for one in new:
            fitting = [other for other in old if _holds(other, one)]
            if not fitting and not _constants(one):
                yield f"{place}: {_name(one)} may be answered now"
            yield from _fewest(
                [*_looser(place, other, one), *self._inner("answered", place, other, one)] for other in fitting
            )

    def _inner(self, way: Way, place: str, old: Node, new: Node) -> Iterator[str]:
        before, now = old.get("properties", {}), new.get("properties", {})
        for name, member in before.items():
            if name in now:
                yield from self._schema(way, f"{place}/{name}", member, now[name])
            elif now:
                yield f"{place}/{name} is gone"
        if "items" in old and "items" in new:
            yield from self._schema(way, f"{place}/[]", old["items"], new["items"])


def _parameters(operation: Node) -> dict[str, Node]:
    return {f"{one['in']} {one['name']}": one for one in operation.get("parameters", ())}


def _required(place: str, old: dict[str, Node], new: dict[str, Node]) -> Iterator[str]:
    for name, described in new.items():
        if described.get("required") and not old.get(name, {}).get("required"):
            yield f"{place}{name} is required now"


def _without_null(parameter: Node) -> Node:
    """A parameter's schema: absent it may be, null it never is."""
    schema: Node = parameter["schema"]
    choices = [one for one in schema.get("anyOf", ()) if one != {"type": "null"}]
    return {"anyOf": choices} if choices else schema


def _alternatives(document: Node, schema: Node) -> Iterator[Node]:
    """The schemas of which a value fits one, without references and unions."""
    if "$ref" in schema:
        yield from _alternatives(document, document["components"]["schemas"][_tail(schema["$ref"])])
        return
    choices = schema.get("anyOf", schema.get("oneOf"))
    if choices is None:
        yield schema
    for choice in choices or ():
        yield from _alternatives(document, choice)


def _holds(wide: Node, narrow: Node) -> bool:
    """Whether one may stand for the other, by its type and by the constants that tell objects apart."""
    kinds = wide.get("type"), narrow.get("type")
    same = kinds[0] in (None, kinds[1]) or kinds == ("number", "integer")
    return same and _constants(wide).items() <= _constants(narrow).items()


def _constants(schema: Node) -> Node:
    return {name: one["const"] for name, one in schema.get("properties", {}).items() if "const" in one}


def _narrower(place: str, old: Node, new: Node) -> Iterator[str]:
    """What is asked of a value that was not asked of it."""
    for key in (*LOWER, *UPPER, *EXACT):
        if _tightened(key, old.get(key), new.get(key)):
            yield f"{place}: {key} is narrower now"
    if _values(new) is not None:
        was = _values(old)
        gone = ["any value"] if was is None else [value for value in was if value not in (_values(new) or ())]
        yield from (f"{place}: {value} is not taken any more" for value in gone)
    for name in new.get("required", ()):
        if name not in old.get("required", ()):
            yield f"{place}/{name} is required now"


def _tightened(key: str, old: Any, new: Any) -> bool:
    if new is None or new is False or new == old:
        return False
    if key == "pattern" and old is not None:
        return not _more_words(old, new)
    if old is None or key in EXACT:
        return True
    return bool(new > old if key in LOWER else new < old)


def _more_words(old: str, new: str) -> bool:
    """Whether a pattern is the old one with more words to choose from, as that of kinds is with another kind."""
    chosen = [[set(words[1:-1].split("|")) for words in WORDS.findall(pattern)] for pattern in (old, new)]
    return WORDS.sub("()", old) == WORDS.sub("()", new) and all(map(set.issubset, *chosen))


def _looser(place: str, old: Node, new: Node) -> Iterator[str]:
    """What a value might always be relied on to be, and is no longer."""
    if old.get("format") not in (None, new.get("format")):
        yield f"{place}: format {old['format']} is gone"
    for name in old.get("required", ()):
        if name not in new.get("required", ()) and name in new.get("properties", {}):
            yield f"{place}/{name} may be absent now"


def _values(schema: Node) -> list[Any] | None:
    return [schema["const"]] if "const" in schema else schema.get("enum", schema.get("x-extensible-enum"))


def _fewest(found: Iterable[list[str]]) -> list[str]:
    """The breaks against the alternative that fits best."""
    return min(found, key=len, default=[])


def _name(schema: Node) -> str:
    return " ".join(_constants(schema).values()) or schema.get("type", "any value")


def _tail(reference: str) -> str:
    return reference.rpartition("/")[2]
