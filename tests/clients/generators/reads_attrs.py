"""Reads a diary with the client of openapi-python-client, writes an entry back, and says what it saw, as JSON."""

import os
from datetime import datetime
from uuid import UUID, uuid4

from attrs_client import AuthenticatedClient
from attrs_client.api.entries import replace_entry
from attrs_client.api.sync import pull_changes, push_changes
from attrs_client.api.timeline import read_timeline
from attrs_client.models import (
    EntryFields,
    EntryMutation,
    EntryOut,
    MutationOp,
    PullOut,
    PushIn,
    PushOut,
    TimelinePage,
    UnknownRecord,
)
from seen import tell

api = AuthenticatedClient(os.environ["API"], token=os.environ["TOKEN"])
patient = UUID(os.environ["PATIENT"])

page = pull_changes.sync(patient, client=api)
assert isinstance(page, PullOut), page
records = [change.record for change in page.changes]
timeline = read_timeline.sync(patient, client=api)
assert isinstance(timeline, TimelinePage), timeline
entries = [record for record in records if isinstance(record, EntryOut)]


def fields(record: EntryOut) -> EntryFields:
    """What the app knows of an entry, as it writes it back."""
    known = record.to_dict()
    knows = set(EntryFields.__annotations__) - {"additional_properties"}
    return EntryFields.from_dict({name: value for name, value in known.items() if name in knows} | {"mood": 9})


first, second = entries
answer = replace_entry.sync(patient, first.id, client=api, body=fields(first), if_match=f'"{first.version}"')
assert isinstance(answer, EntryOut), answer
mutation = EntryMutation(
    mutation_id=uuid4(),
    op=MutationOp.PUT,
    kind="entry",
    id=second.id,
    base_version=second.version,
    data=fields(second),
)
sent = PushIn(device_id="attrs", client_now=datetime.now().astimezone(), mutations=[mutation])
pushed = push_changes.sync(patient, client=api, body=sent)
assert isinstance(pushed, PushOut), pushed
again = pull_changes.sync(patient, client=api, cursor=page.cursor)
assert isinstance(again, PullOut), again
tell(records, UnknownRecord, timeline, pushed, again)
