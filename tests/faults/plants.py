"""Faults for the database of one experiment: functions with a few words changed, as in `mutants`."""

from dataclasses import dataclass

import asyncpg


@dataclass(frozen=True)
class Plant:
    """Changes of functions, each of a text that is there exactly once, and statements before them."""

    changes: tuple[tuple[str, str, str], ...]  # function, old, new
    statements: tuple[str, ...] = ()

    async def apply(self, owner_url: str) -> None:
        """Changes the database; raises ValueError where an old text is not there once."""
        connection = await asyncpg.connect(owner_url)
        try:
            for statement in self.statements:
                await connection.execute(statement)
            for function, old, new in self.changes:
                definition = "SELECT pg_get_functiondef(oid) FROM pg_proc WHERE proname = $1"
                text = await connection.fetchval(definition, function)
                if text.count(old) != 1:
                    raise ValueError(f"{function} has the old text {text.count(old)} times")
                await connection.execute(text.replace(old, new))
        finally:
            await connection.close()


# No fault: the moment between taking a number and the commit, made longer.
SLOW_COMMITS = Plant(
    (("store", "BEGIN\n", "BEGIN\n    PERFORM pg_sleep(random() * 0.04);\n"),),
)
# Long enough for others to commit meanwhile, and to be read.
LINGER_ON = "PERFORM pg_sleep(CASE WHEN random() < 0.25 THEN 0.5 ELSE 0 END);"
SEQUENCE_CURSOR = Plant(
    (
        ("lock_clock", "        FOR UPDATE;", "        ;"),
        ("lock_clock", "        FOR UPDATE SKIP LOCKED;", "        ;"),
        ("settle", "head := head + 1;", "head := nextval('planted');"),
        (
            "conclude",
            "UPDATE patient_clocks SET head = conclude.head",
            f"{LINGER_ON} UPDATE patient_clocks c SET head = greatest(c.head, conclude.head)",
        ),
    ),
    ("CREATE SEQUENCE planted", "GRANT USAGE ON planted TO public"),
)
FORGOTTEN_MUTATIONS = Plant(
    (
        ("decide", "WHEN mutation_id IS NOT NULL AND earlier.mutation_id = mutation_id", "WHEN false"),
        ("decide", "WHEN after_refused OR held.version <> base_version THEN 'conflict'", ""),
    ),
    ("DROP INDEX uq_record_versions_mutation",),
)
LATE_UPLOADS = Plant(
    (
        (
            "decide",
            "ELSE 'conflict' END\n        WHEN undeletes",
            "ELSE 'updated' END\n        WHEN undeletes",
        ),
    ),
)
ENDLESS_PAGES = Plant(
    (("changes_after", "AND change_seq > p_after", "AND change_seq >= p_after"),),
)
CARELESS_COMMITS = Plant(
    (("store", "BEGIN\n", "BEGIN\n    PERFORM set_config('synchronous_commit', 'off', true);\n"),),
    ("ALTER SYSTEM SET wal_writer_delay = '10s'", "SELECT pg_reload_conf()"),
)
