"""What protects the data: owners, privileges, policies, functions. As this release left it, and as a database has it.

`app/models/protection.tsv` says how it was left; `python -m migrations.new` writes it, and `make check` compares it.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from app import models

LEFT = Path(models.__file__).with_name("protection.tsv")
FACTS = Path(__file__).with_name("protection.sql").read_text()
UNREADABLE = ("function", "policy", "trigger")  # what differs there is too long for a line

Facts = dict[tuple[str, str], str]  # kind and object → what it says


def facts_left() -> Facts:
    """The facts as this release left them."""
    rows = (line.split("\t") for line in LEFT.read_text().splitlines())
    return {(kind, name): value for kind, name, value in rows}


async def read_facts(connection: Any) -> Facts:
    """The facts as the database has them, over a connection of the driver's that is for nothing else."""
    await connection.execute("SET search_path = public")  # else names would come with their schema
    return {(row["kind"], row["object"]): row["value"] for row in await connection.fetch(FACTS)}


def write_facts(facts: Facts) -> None:
    """Says that this is how the release leaves them."""
    lines = sorted("\t".join((*fact, value)) for fact, value in facts.items())
    LEFT.write_text("\n".join(lines) + "\n")


def differences(left: Facts, found: Facts) -> Iterator[tuple[str, str]]:
    """Each kind and a sentence on what is not as it was left. Objects that are not ours may be whatever they are."""
    ours = {name.partition(", ")[0] for _, name in left}
    for kind, name in sorted(left.keys() | found.keys()):
        wanted, there = left.get((kind, name)), found.get((kind, name))
        if wanted == there or name.partition(", ")[0] not in ours:
            continue
        yield kind, _sentence(kind, name, wanted, there)


def _sentence(kind: str, name: str, wanted: str | None, there: str | None) -> str:
    if there is None and kind != "privilege":
        return f"{name} is missing"
    if wanted is None and kind != "privilege":
        return f"{name} is not of this release"
    if kind in UNREADABLE:
        return f"{name} is not as this release left it"
    return f"{name}: {there or 'nobody'}, not {wanted or 'nobody'}"
