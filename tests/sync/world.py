"""Three phones of one patient, one of somebody who helps, and whoever loses the database and restores a backup."""

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TypeAlias
from uuid import UUID

import asyncpg

from app.schemas.kinds import BY_NAME
from app.services.restores import NEW_EPOCHS
from tests.people import Phone, grant
from tests.sync.model import View

Connection: TypeAlias = "asyncpg.Connection[asyncpg.Record]"
Backup: TypeAlias = list[list[asyncpg.Record]]

OWNERS, CARER = (0, 1, 2), 3
TABLES = ("records", "record_versions")
SINCE = datetime(2025, 1, 1, tzinfo=UTC)


def scopes_of(view: View) -> list[str]:
    """The scopes that give this view."""
    reads = {BY_NAME[kind].read_scope for kind in view.reads}
    writes = {BY_NAME[kind].write_scope for kind in view.writes}
    return sorted(reads | writes | ({"notes:read"} if view.notes else set()))


@dataclass
class World:
    """Three phones of one patient, one of somebody who helps, and the superuser who loses and restores data."""

    superuser: Connection
    phones: list[Phone]

    @property
    def patient_id(self) -> UUID:
        return UUID(self.phones[0].patient_id)

    async def reset(self) -> str:
        """As if the patient had just registered; the epoch."""
        for table in ("grants", *TABLES):
            await self.superuser.execute(f"DELETE FROM {table} WHERE patient_id = $1", self.patient_id)
        await self.superuser.execute(
            "UPDATE patient_clocks SET head = 0, epoch = gen_random_uuid(), previous_epoch = NULL, restored_head = 0 "
            "WHERE patient_id = $1",
            self.patient_id,
        )
        return await self.epoch()

    async def epoch(self) -> str:
        """The diary's epoch."""
        return str(
            await self.superuser.fetchval("SELECT epoch FROM patient_clocks WHERE patient_id = $1", self.patient_id)
        )

    async def back_up(self) -> Backup:
        """The diary's rows."""
        return [
            await self.superuser.fetch(f"SELECT * FROM {table} WHERE patient_id = $1", self.patient_id)
            for table in ("patient_clocks", *TABLES)
        ]

    async def restore(self, backup: Backup) -> str:
        """Puts the rows back, and does what `pain-diary restored` does; the new epoch."""
        clock, *tables = backup
        for name, rows in zip(TABLES, tables, strict=True):
            await self.superuser.execute(f"DELETE FROM {name} WHERE patient_id = $1", self.patient_id)
            if rows:
                await self.superuser.copy_records_to_table(name, records=map(tuple, rows), columns=list(rows[0].keys()))
        await self.superuser.execute(
            "UPDATE patient_clocks SET head = $2, epoch = $3, previous_epoch = $4, restored_head = $5 "
            "WHERE patient_id = $1",
            *(clock[0][name] for name in ("patient_id", "head", "epoch", "previous_epoch", "restored_head")),
        )
        await self.superuser.execute(f"{NEW_EPOCHS} WHERE patient_id = $1", self.patient_id)
        return await self.epoch()

    async def agree(self, view: View | None) -> None:
        """What the helper may see from now on."""
        active = "WHERE patient_id = $1 AND revoked_at IS NULL"
        if view is None:
            await self.superuser.execute(f"UPDATE grants SET revoked_at = now() {active}", self.patient_id)
            return
        terms = {"scopes": scopes_of(view), "data_from": SINCE if view.windowed else None}
        changed = await self.superuser.execute(
            f"UPDATE grants SET scopes = $2, data_from = $3, version = version + 1 {active}",
            self.patient_id,
            *terms.values(),
        )
        if changed == "UPDATE 0":
            await grant(self.superuser, self.phones[0], self.phones[CARER], **terms)
