"""The same with the models of datamodel-code-generator, over httpx."""

import os
from datetime import datetime
from typing import Any
from uuid import uuid4

import httpx
from pydantic import BaseModel
from pydantic_client import EntryFields, EntryMutation, EntryOut, PullOut, PushIn, PushOut, TimelinePage, UnknownRecord
from seen import tell

api = httpx.Client(
    base_url=f"{os.environ['API']}/v1/patients/{os.environ['PATIENT']}",
    headers={"Authorization": f"Bearer {os.environ['TOKEN']}"},
    timeout=120,
)


def got(answer: httpx.Response) -> bytes:
    """The body of what went well."""
    assert answer.is_success, answer.text
    return answer.content


page = PullOut.model_validate_json(got(api.get("/sync/pull")))
records = [change.record for change in page.changes]
timeline = TimelinePage.model_validate_json(got(api.get("/timeline")))
entries = [record for record in records if isinstance(record, EntryOut)]


def fields(record: EntryOut) -> EntryFields:
    """What the app knows of an entry, as it writes it back."""
    members = known(record)
    return EntryFields.model_validate(
        {name: members[name] for name in members.keys() & EntryFields.model_fields.keys()}
    )


def known(value: Any) -> Any:
    """The value without the members that the app does not know."""
    if isinstance(value, BaseModel):
        return {name: known(getattr(value, name)) for name in value.model_fields_set & type(value).model_fields.keys()}
    return [known(one) for one in value] if isinstance(value, list) else value


first, second = (entry.model_copy(update={"mood": 9}) for entry in entries)
body = fields(first).model_dump_json(exclude_unset=True)
sent = {"If-Match": f'"{first.version}"', "Content-Type": "application/json"}
EntryOut.model_validate_json(got(api.put(f"/entries/{first.id}", content=body, headers=sent)))
mutation = EntryMutation.model_validate(
    {
        "mutation_id": uuid4(),
        "op": "put",
        "kind": "entry",
        "id": second.id,
        "base_version": second.version,
        "data": fields(second),
    }
)
push = PushIn(device_id="pydantic", client_now=datetime.now().astimezone(), mutations=[mutation])
said = {"Content-Type": "application/json"}
pushed = PushOut.model_validate_json(
    got(api.post("/sync/push", content=push.model_dump_json(exclude_unset=True), headers=said))
)
again = PullOut.model_validate_json(got(api.get("/sync/pull", params={"cursor": page.cursor})))
tell(records, UnknownRecord, timeline, pushed, again)
