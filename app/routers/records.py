"""The routes of records, the same for every kind: create, list, read, replace, revise, delete, read the history."""

from collections.abc import Awaitable, Callable, Mapping
from types import MappingProxyType
from typing import Annotated, Any, NamedTuple
from uuid import UUID

from fastapi import APIRouter, Depends, Path, Response
from pydantic import BaseModel

from app.http import etags
from app.http import record_responses as responses
from app.http.date_range import FirstDay, LastDay, check_order
from app.http.deps import BaseVersion, Cursor, DiaryOf, DiaryToWrite, IfNoneMatch, Limit, SchemaKnown
from app.http.validation import validated
from app.schemas.records import AnyKind
from app.services import records
from app.services.record_store import Filters

Endpoint = Callable[..., Awaitable[Response]]
FilterDependency = Callable[..., Awaitable[Filters]]


class Text(NamedTuple):
    """What the OpenAPI document says of an operation; what is None is said as of every kind."""

    summary: str | None = None
    description: str | None = None


def record_routes(
    kind: AnyKind,
    *,
    filters: FilterDependency | None = None,
    id_name: str | None = None,
    texts: Mapping[str, Text] = MappingProxyType({}),
) -> APIRouter:
    """A router with every operation of a kind, below the patient's path.

    `filters` is the dependency that says which records a list holds; by default those between two days, of what happens
    at a moment. `id_name` names the id in the path, `<kind>_id` by default. `texts` by verb: create, list, read,
    replace, revise, delete, undelete, list_versions.
    """
    routes = _Routes(kind, id_name or f"{kind.name}_id", texts)
    routes.create()
    if kind.holds != "singleton":
        routes.list(filters or _filters_of(kind))
    routes.read()
    routes.replace()
    routes.revise()
    if kind.holds != "singleton":
        routes.delete()
        routes.undelete()
    routes.list_versions()
    return routes.router


class _Routes:
    """The operations of one kind, each added to the router by its method.

    FastAPI reads an endpoint's name, documentation and parameters from the function, so those that depend on the kind
    are set on it before it is added.
    """

    def __init__(self, kind: AnyKind, id_name: str, texts: Mapping[str, Text]) -> None:
        self.kind = kind
        self.texts = texts
        self.router = APIRouter(prefix=f"/v1/patients/{{patient_id}}/{kind.path}", tags=[kind.path])
        self.place: str = "" if kind.holds == "singleton" else f"/{{{id_name}}}"
        chosen = Path(alias=id_name, description="The id that the phone chose.")
        self.record_id: object = Depends(_patients_own) if kind.holds == "singleton" else chosen

    def create(self) -> None:
        kind = self.kind

        async def create(diary: DiaryToWrite, body: Any) -> Response:
            record_id = str(diary.patient_id) if kind.holds == "singleton" else body.id
            location = kind.path if kind.holds == "singleton" else f"{kind.path}/{record_id}"
            return responses.created(diary, location, await records.create(kind, diary, record_id, body))

        usual = Text(
            f"Add {kind.noun}",
            f"Stores {kind.noun} under the id that the phone chose, so sending it again after a lost answer is safe.",
        )
        self._add("POST", "", create, usual, responses.creating(kind.out), body=kind.create)

    def list(self, filters: FilterDependency) -> None:
        kind = self.kind

        async def list_(
            diary: DiaryOf,
            filters: Any,
            limit: Limit = 50,
            cursor: Cursor = None,
            if_none_match: IfNoneMatch = None,
        ) -> Response:
            known = etags.known(if_none_match)
            return responses.page(await records.read_page(kind, diary, filters, limit, cursor, known))

        which = " that fit" if kind.holds == "moment" else ""
        usual = Text(f"List {kind.words}", f"{kind.words.capitalize()}{which}, newest first, a page at a time.")
        self._add("GET", "", list_, usual, responses.listing(kind.page), filters=Annotated[Filters, Depends(filters)])

    def read(self) -> None:
        kind = self.kind

        async def read(diary: DiaryOf, record_id: UUID) -> Response:
            return responses.stored(await records.read(kind, diary, record_id))

        usual = Text(f"Read {kind.noun}", f"The {kind.one} as it is now; 410 once it was deleted.")
        self._add("GET", self.place, read, usual, responses.reading(kind.out))

    def replace(self) -> None:
        kind = self.kind

        async def replace(
            diary: DiaryToWrite, record_id: UUID, base_version: BaseVersion, body: Any, schema_version: SchemaKnown = 1
        ) -> Response:
            stored = await records.replace(kind, diary, record_id, base_version, body, schema_version, validated)
            return responses.stored(stored)

        usual = Text(
            f"Replace {kind.noun}",
            "Puts new content in the place of the version that If-Match names; never creates one.",
        )
        self._add("PUT", self.place, replace, usual, responses.replacing(kind.out), body=kind.fields)

    def revise(self) -> None:
        kind = self.kind

        async def revise(
            diary: DiaryToWrite,
            record_id: UUID,
            base_version: BaseVersion,
            body: BaseModel,
            schema_version: SchemaKnown = 1,
        ) -> Response:
            patch = body.model_dump(mode="json", exclude_unset=True)
            stored = await records.revise(kind, diary, record_id, base_version, patch, schema_version, validated)
            return responses.stored(stored)

        usual = Text(
            f"Correct {kind.noun}",
            "A merge patch (RFC 7396): what is absent stays, null removes, a list is replaced as a whole.",
        )
        self._add("PATCH", self.place, revise, usual, responses.revising(kind.out, kind.patch), body=kind.patch)

    def delete(self) -> None:
        kind = self.kind

        async def delete(diary: DiaryToWrite, record_id: UUID, base_version: BaseVersion) -> Response:
            await records.delete(kind, diary, record_id, base_version)
            return Response(status_code=204)

        usual = Text(
            f"Delete {kind.noun}",
            f"Deletes the version that If-Match names; doing it again is no error. A deleted {kind.one} stays deleted "
            "until it is brought back by name (`undelete`).",
        )
        self._add("DELETE", self.place, delete, usual, responses.deleting())

    def undelete(self) -> None:
        kind = self.kind

        async def undelete(diary: DiaryToWrite, record_id: UUID, base_version: BaseVersion) -> Response:
            return responses.stored(await records.undelete(kind, diary, record_id, base_version))

        usual = Text(
            f"Bring {kind.noun} back",
            f"Makes a new version of what the {kind.one} was before it was deleted. If-Match names the version of the "
            "deletion: one more than that of the version that was deleted. Of one that is there nothing changes. The "
            "patient may, and who deleted it.",
        )
        self._add("POST", f"{self.place}/undelete", undelete, usual, responses.replacing(kind.out))

    def list_versions(self) -> None:
        kind = self.kind

        async def list_versions(diary: DiaryOf, record_id: UUID, limit: Limit = 50, cursor: Cursor = None) -> Response:
            return responses.history(await records.read_versions(kind, diary, record_id, limit, cursor))

        usual = Text(
            f"Read {kind.noun}'s history",
            "Every version with its author, device and time, newest first"
            + ("." if kind.holds == "singleton" else f"; also of a deleted {kind.one}."),
        )
        self._add("GET", f"{self.place}/versions", list_versions, usual, responses.tracing(kind.history))

    def _add(
        self, method: str, path: str, endpoint: Endpoint, usual: Text, described: responses.Described, **types: Any
    ) -> None:
        """Adds an operation under its verb and the name of the kind, with the types that depend on the kind."""
        verb = endpoint.__name__.rstrip("_")
        summary, description = self.texts.get(verb, Text())
        if "record_id" in endpoint.__annotations__:
            types["record_id"] = Annotated[UUID, self.record_id]
        endpoint.__annotations__.update(types)
        endpoint.__name__ = _operation(verb, self.kind)
        self.router.add_api_route(
            path,
            endpoint,
            methods=[method],
            summary=summary or usual.summary,
            description=description or usual.description,
            **described,
        )


async def _patients_own(diary: DiaryOf) -> UUID:
    """The id of a record of which a patient has one."""
    return diary.patient_id


def _operation(verb: str, kind: AnyKind) -> str:
    """The operationId: create_entry, list_entries, list_entry_versions."""
    if verb == "list_versions":
        return f"list_{kind.name}_versions"
    return f"{verb}_{kind.plural if verb == 'list' else kind.name}"


def _filters_of(kind: AnyKind) -> FilterDependency:
    """The usual filters: days, of what happens at a moment; of what holds for a time everything is listed."""

    async def between(from_: FirstDay = None, to: LastDay = None) -> Filters:
        check_order(from_, to)
        return Filters((kind.name,), from_, to)

    async def everything() -> Filters:
        return Filters((kind.name,))

    return between if kind.holds == "moment" else everything
