"""How a connection to PostgreSQL is made, and in one sentence why it was not, or what PostgreSQL would not do.

The sentences repeat nothing of what was given: no address, no name, no password, no value.
"""

import ssl
from pathlib import Path
from socket import gaierror
from typing import Any

import asyncpg

BROKEN = "The connection to PostgreSQL broke."
UNREADABLE = "The URL of the database cannot be read: it is written as libpq takes it."
# By SQLSTATE: what the operator can do something about.
REFUSALS = {
    "28P01": "PostgreSQL refuses the password.",
    "28000": "PostgreSQL does not let this role in: it is unknown, may not log in, or pg_hba.conf has no line for it.",
    "3D000": "PostgreSQL has no database of this name.",
    "42501": "This takes the owner's rights: set DIARY_MIGRATION_DATABASE_URL.",
    "42P01": "The database is not migrated yet: `pain-diary migrate` comes first.",
    "42883": "The functions of the database are not those of this release: `pain-diary migrate` comes first.",
    "25006": "The database is read-only.",
    "40P01": "PostgreSQL was held up by a deadlock: try again.",
    "53100": "The disk of the database is full.",
    "53300": "PostgreSQL has no connection left.",
    "55P03": "PostgreSQL could not lock what it needed, as others hold it: try again.",
    "57014": "PostgreSQL ended the statement, as it took too long.",
    "57P03": "PostgreSQL is starting or stopping.",
}
# Whoever is not the owner sees no row of others, and would find nothing wrong with what it does not see.
IS_OWNER = """
SELECT coalesce(pg_has_role(min(tableowner), 'MEMBER'), true) FROM pg_tables
WHERE schemaname = 'public' AND tablename = 'alembic_version'
"""
NO_CONNECT = "The role may not connect to this database."


class NotConnected(ConnectionError):
    """No connection came about; the text says why in one sentence."""


class NotTheOwner(Exception):
    """What was asked for takes the owner's rights; the text says so."""


async def connect(url: str, *, password_file: Path | None = None, **options: Any) -> Any:
    """A connection. The password file is read for each, so that a new password needs no restart.

    Raises NotConnected.
    """
    try:
        if password_file is not None:
            options["password"] = read_password(password_file)
        return await asyncpg.connect(driver_url(url), **options)
    except asyncpg.PostgresError as failure:
        reason = NO_CONNECT if failure.sqlstate == "42501" else refusal(failure.sqlstate)
    except NotConnected:
        raise
    except ValueError:  # asyncpg's own among them
        reason = UNREADABLE
    except OSError as failure:
        reason = _unreachable(failure)
    raise NotConnected(reason)


async def require_owner(connection: Any) -> None:
    """Raises NotTheOwner where the connection's role is not the owner of the tables."""
    if not await connection.fetchval(IS_OWNER):
        raise NotTheOwner(REFUSALS["42501"])


def read_password(file: Path) -> str:
    """The password in a file, without the end of its line; raises NotConnected."""
    try:
        password = file.read_text().rstrip("\r\n")
    except OSError as failure:
        raise NotConnected(f"DIARY_DATABASE_PASSWORD_FILE cannot be read: {failure.strerror}.") from None
    except ValueError:
        raise NotConnected("DIARY_DATABASE_PASSWORD_FILE holds no text in UTF-8.") from None
    if not password:
        raise NotConnected("DIARY_DATABASE_PASSWORD_FILE is empty.")
    return password


def sentence(failure: BaseException) -> str | None:
    """What PostgreSQL refused or why it cannot be reached; None for what is no failure of the database's."""
    link: BaseException | None = failure
    while link is not None:
        if isinstance(link, NotConnected):
            return str(link)
        if isinstance(link, asyncpg.PostgresError):
            return refusal(link.sqlstate)
        if isinstance(link, asyncpg.InterfaceError | asyncpg.InternalClientError):
            return BROKEN
        link = getattr(link, "orig", None) or link.__cause__
    return None


def refusal(sqlstate: str | None) -> str:
    """What PostgreSQL refused, by SQLSTATE."""
    code = sqlstate or ""
    if code in REFUSALS:
        return REFUSALS[code]
    return BROKEN if code.startswith(("08", "57")) else f"PostgreSQL refuses with SQLSTATE {code}: its log says more."


def driver_url(url: str) -> str:
    """The URL as asyncpg takes it."""
    return url.replace("postgresql+asyncpg://", "postgresql://", 1)


def _unreachable(failure: OSError) -> str:
    if isinstance(failure, TimeoutError):
        return "PostgreSQL does not answer in time."
    if isinstance(failure, gaierror):
        return "The host of the database has no address."
    if isinstance(failure, PermissionError):  # libpq's files are looked for in the home directory
        return "PostgreSQL cannot be reached: its socket, or a file in ~/.postgresql, may not be opened."
    if isinstance(failure, ssl.SSLError):
        return "There is no TLS connection to PostgreSQL as the URL asks for it."
    return "PostgreSQL cannot be reached: nothing answers at its address."
