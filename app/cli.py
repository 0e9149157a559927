"""`pain-diary`: serve, try out and look after the service. Nothing happens on import.

The application is imported by what makes one, for it decides then whether processes share its metrics.
"""

import asyncio
import json
import signal
import sys
from collections.abc import Callable, Coroutine, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from socket import socket
from tempfile import TemporaryDirectory
from typing import Annotated, Any, NoReturn, TypeVar

import typer
from pydantic import SecretStr, ValidationError

from app.config import Settings
from app.demo import seed as demo_data
from app.domain.people import ROLES
from app.http import server
from app.http.parts import check_start
from app.http.tls import UnfitCertificate
from app.models.care_team import PROFESSIONS
from app.models.revision import REVISION
from app.postgres import connections, distribution, embedded, homes, programs, restarts, rights
from app.postgres import migrate as migrations
from app.postgres.database import CannotServe
from app.security import tokens
from app.services import accounts, audit, backups, invitations, restores
from app.services import verify as verification

DATABASE = "diary"
# Their text is one sentence for whoever runs the command.
SAYING_WHY = (
    server.CannotListen,
    UnfitCertificate,
    embedded.CannotStart,
    embedded.StillRunning,
    migrations.UnknownRevision,
    rights.Incomplete,
    backups.Unreadable,
    restores.StillServed,
    CannotServe,
    connections.NotTheOwner,
    audit.NotSettled,
)
# What the commands do that need nothing but the address of an account.
ON_ACCOUNT = {
    "disable": "End every right of an account on its next request; nothing of it is deleted.",
    "enable": "Give an account back what it had before it was disabled.",
    "verify-clinician": "Vouch for a clinician: what patients consented to is open from now on.",
    "unverify-clinician": "Vouch no longer: the clinician sees no health data from now on.",
}
Result = TypeVar("Result")

cli = typer.Typer(
    help="A pain diary service.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,  # they may show the values of variables, and those may be secrets
)
admin = typer.Typer(help="Work on keys and accounts.", no_args_is_help=True)
cli.add_typer(admin, name="admin")
keys = typer.Typer(help="Look at signing keys, and take old ones away.", no_args_is_help=True)
admin.add_typer(keys, name="keys")
people = typer.Typer(help="List accounts, disable and enable them.", no_args_is_help=True)
admin.add_typer(people, name="people")
trail = typer.Typer(help="Seal the audit trail: docs/operate.md says where to keep its anchors.", no_args_is_help=True)
cli.add_typer(trail, name="audit")
backup = typer.Typer(help="Look at backups: docs/backup.md says how to make them.", no_args_is_help=True)
cli.add_typer(backup, name="backup")


def main() -> None:
    """The entry point. SIGTERM and a closed terminal end a command as Ctrl-C does: what it started is stopped."""
    # By an exception, so that context managers stop the embedded database; a shell expects 128 + the signal.
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda received, _: sys.exit(128 + received))
    cli()


@cli.command()
def serve() -> None:
    """Serve a database that is there already, with DIARY_WORKERS workers."""
    settings = _settings()
    if settings.database_url is None:
        _fail("DIARY_DATABASE_URL is not set. `pain-diary demo` brings a database of its own.", 2)
    with _said_plainly(), closing(server.bind(settings)) as listener:
        asyncio.run(check_start(settings))  # the application is imported later: server.py says why
        server.run(settings, "app.main:create_app", listener)


@cli.command()
def demo(port: Annotated[int | None, typer.Option(help="Instead of DIARY_PORT.")] = None) -> None:
    """Try it out: an own database with a year of entries, never a configured one."""
    chosen = {} if port is None else {"port": port}
    own = {"environment": "development", "database_url": None, "migration_database_url": None, "workers": 1}
    settings = _settings(**own, **chosen)
    with _said_plainly(), closing(server.bind(settings)) as listener:
        typer.echo("Starting a PostgreSQL of its own.")
        with _embedded(settings) as postgres, restarts.kept_alive(postgres):
            _serve_demo(settings, listener, postgres)


def _serve_demo(settings: Settings, listener: socket, postgres: embedded.Server) -> None:
    settings = settings.model_copy(update={"database_url": SecretStr(postgres.url("diary_app", DATABASE))})
    typer.echo("Migrating its database.")
    try:
        migrations.migrate(postgres.url("postgres", DATABASE))
    except migrations.UnknownRevision:
        home = postgres.data_directory.parent
        _fail(f"The data in {home} were made by an earlier version: `make reset` begins anew.", 1)
    typer.echo("Adding a year of a demo patient, where there is none.")
    demo_data.seed(settings, postgres.url("postgres", DATABASE))
    listener.listen()  # a caller who is quicker than the start waits in its queue
    typer.echo(demo_data.welcome(server.address_of(listener, settings)))
    from app.main import create_app

    server.run(settings, create_app(settings), listener)


@cli.command()
def reset() -> None:
    """Delete the data of the demo, and nothing of a configured database."""
    settings = _settings(environment="development", database_url=None, migration_database_url=None)
    with _said_plainly():
        erased = embedded.erase(settings.state_directory / "postgres")
    for home in erased:
        typer.echo(f"The data in {home} are deleted.")
    typer.echo("`make run` begins anew.")


@cli.command()
def migrate() -> None:
    """Bring the database to the newest migration; gives back what a restore lost of owners and privileges."""
    settings = _settings()
    with _said_plainly(), _owner_url(settings) as url:
        applied = migrations.migrate(url)
        mended = [] if settings.database_distributed else rights.mend(url)  # Citus has keys of its own
    typer.echo("\n".join(f"Migrated to {revision}." for revision in applied) or f"It stands at {REVISION} already.")
    for sentence in mended:
        typer.echo(sentence)


@cli.command()
def distribute(
    citus: Annotated[bool, typer.Option("--citus", help="For Citus, which is the only one so far.")] = False,
) -> None:
    """Print the SQL that spreads a migrated database over machines by patient; nothing is run."""
    if not citus:
        _fail("Say for what: `pain-diary distribute --citus`.", 2)
    typer.echo(distribution.citus_ddl(), nl=False)


@cli.command()
def openapi() -> None:
    """Print the OpenAPI document."""
    from app.main import create_app

    with TemporaryDirectory() as directory:  # for keys that sign nothing
        own = {"environment": "development", "database_url": SecretStr("postgresql://"), "state_directory": directory}
        document = create_app(_settings(**own)).openapi()
    typer.echo(json.dumps(document, indent=2, ensure_ascii=False))


@cli.command()
def verify(
    anchor: Annotated[str | None, typer.Option(help="Kept outside: tells what was cut off or made anew.")] = None,
) -> None:
    """Look for damage in diaries, audit trail and what guards them: exits with 1, or prints the trail's anchor."""
    settings = _settings()
    with _said_plainly(), _owner_url(settings) as url:
        progress = _show_progress if sys.stderr.isatty() else None
        findings = verification.run(url, progress, distributed=settings.database_distributed, anchor=anchor)
        if not findings:
            _print_anchor(verification.present_anchor(url))
    if findings:
        typer.echo("\n".join(findings))
        raise typer.Exit(1)


@trail.command()
def seal() -> None:
    """Seal what has happened until now, as the service does by itself, and print the anchor to be kept outside."""
    _print_anchor(_as_owner(audit.seal_now))


def _print_anchor(anchor: str | None) -> None:
    typer.echo("Nothing is sealed yet." if anchor is None else anchor)


def _show_progress(done: int, total: int) -> None:
    filled = 40 * done // total
    typer.echo(f"\r[{'#' * filled}{'.' * (40 - filled)}] {done} of {total} diaries", nl=done == total, err=True)


@cli.command()
def restored() -> None:
    """Run it once after restoring a backup, before `serve`: what may have ended since the backup ends, or waits."""
    settings = _settings()
    with _said_plainly(), _owner_url(settings) as url:
        restores.require_stopped(url)
        done = restores.take_back(url)
    typer.echo(
        f"{done.diaries} diaries have a new epoch: phones offer again what was lost.\n"
        f"{done.sessions} sessions are ended: people sign in again.\n"
        f"{done.links} one-time links are ended: invite anew who still needs one.\n"
        f"{done.grants} consents are suspended until their patients confirm them."
    )


@backup.command()
def check(path: Annotated[Path, typer.Argument(metavar="FILE", help="What pg_dump wrote, in any format.")]) -> None:
    """Read a dump to its end: exits with 1 where it lacks records, tables or its end, and says what it holds."""
    with _said_plainly():
        dump = backups.read(path, programs.find(_settings(environment="development").postgres_binaries) / "pg_restore")
    if dump.faults:
        _fail("\n".join(dump.faults), 1)
    typer.echo(
        f"{path} holds {dump.rows['patients']} patients with {dump.rows['records']} records in"
        f" {dump.rows['record_versions']} changes, at the migration {dump.revision}."
    )


@admin.command()
def rotate_keys() -> None:
    """Make a new signing key; running workers take it up, and old tokens stay valid."""
    with _said_plainly():
        typer.echo(tokens.create_signing_key(_keys_directory()))


@keys.command("list")
def list_keys() -> None:
    """Name the signing keys, the newest first; it signs, and all of them verify."""
    with _said_plainly():
        signing, *others = tokens.key_ids(_keys_directory())
    typer.echo("\n".join([f"{signing} signs", *others]))


@keys.command()
def retire(kid: str) -> None:
    """Delete a signing key that has a successor: what it signed is refused from now on, and phones get new tokens."""
    with _said_plainly():
        tokens.retire_key(_keys_directory(), kid)


def _keys_directory() -> Path:
    settings = _settings()
    directory = settings.signing_keys_directory or settings.state_directory / "keys"
    if settings.signing_keys_directory is None and not directory.exists():
        _fail("DIARY_SIGNING_KEYS_DIRECTORY is not set, and `pain-diary demo` has no keys here.", 2)
    return directory


@people.command("list")
def list_people(
    role: Annotated[str | None, typer.Option(help=f"One of {', '.join(ROLES)}.")] = None,
    disabled: Annotated[bool, typer.Option("--disabled", help="Only those that are disabled.")] = False,
) -> None:
    """List accounts: address, role, name, since when, seen when, and whether disabled, separated by tabs."""
    if role is not None and role not in ROLES:
        _fail(f"The role is one of {', '.join(ROLES)}.", 2)
    for account in _as_owner(lambda url: accounts.list_accounts(url, role, disabled=disabled)):
        seen = "never" if account.last_seen_at is None else f"{account.last_seen_at:%Y-%m-%d}"
        state = "active" if account.disabled_at is None else f"disabled {account.disabled_at:%Y-%m-%d}"
        days = [f"{account.created_at:%Y-%m-%d}", seen]
        typer.echo("\t".join([account.email, account.role, account.display_name, *days, state]))


@admin.command()
def create(
    email: str, name: Annotated[str | None, typer.Option(help="As others see it; Administrator at first.")] = None
) -> None:
    """Make an admin; prints a one-time link. There is no default account."""
    _print_link(_as_owner(lambda url: invitations.invite_admin(url, email, name)))


@admin.command()
def organisation(name: str) -> None:
    """Add an organisation; prints its id."""
    typer.echo(_as_owner(lambda url: invitations.add_organisation(url, name)))


@admin.command()
def clinician(
    email: str,
    name: Annotated[str, typer.Option(help="As patients see it.")],
    profession: Annotated[str, typer.Option(help=f"One of {', '.join(PROFESSIONS)}.")],
    organisation: Annotated[str | None, typer.Option(help="Whose consents they share; add it first.")] = None,
    unverified: Annotated[bool, typer.Option("--unverified", help="No health data before verify-clinician.")] = False,
) -> None:
    """Make a clinician, whom you vouch for; prints a one-time link. Again: a new link, and what is given changes."""
    facts = (email, name, profession, organisation)
    _print_link(_as_owner(lambda url: invitations.invite_clinician(url, *facts, unverified=unverified)))


def _on_account(group: typer.Typer, name: str, work: Callable[[str, str], Coroutine[object, object, None]]) -> None:
    """Adds a command that does this with the account of one address."""

    @group.command(name, help=ON_ACCOUNT[name])
    def run(email: str) -> None:
        _as_owner(lambda url: work(url, email))


_on_account(people, "disable", accounts.disable)
_on_account(people, "enable", accounts.enable)
_on_account(admin, "verify-clinician", invitations.verify_clinician)
_on_account(admin, "unverify-clinician", invitations.unverify_clinician)


def _as_owner(work: Callable[[str], Coroutine[object, object, Result]]) -> Result:
    """What becomes of work on accounts, which needs the owner's URL."""
    with _said_plainly(), _owner_url(_settings()) as url:
        return asyncio.run(work(url))


def _print_link(token: str) -> None:
    """The token stands behind the #: that part of an address is sent to no server, and so is in no log."""
    typer.echo(f"{_settings().public_url.rstrip('/')}/activate#{token}")
    typer.echo(f"It is good once, for {invitations.LIFE.days} days, and instead of any link before.", err=True)


def _settings(**overrides: Any) -> Settings:
    """The settings, or the end of the command with one line per fault and no values."""
    try:
        return Settings(**overrides)
    except ValidationError as error:
        faults = error.errors(include_input=False, include_context=False, include_url=False)
        _fail("\n".join(_line(fault["loc"], fault["msg"]) for fault in faults), 2)
    except OSError as error:  # whoever was put into another account stands in a folder that it may not enter
        _fail(f"The settings in .env of this folder cannot be read: {error.strerror}.", 2)
    except UnicodeDecodeError:
        _fail("The settings in .env of this folder are no text in UTF-8.", 2)


def _line(location: tuple[int | str, ...], message: str) -> str:
    sentence = message.removeprefix("Value error, ")
    return f"DIARY_{str(location[0]).upper()}: {sentence}" if location else sentence


def _fail(text: str, code: int) -> NoReturn:
    typer.echo(text, err=True)
    raise typer.Exit(code)


@contextmanager
def _said_plainly() -> Iterator[None]:
    """Ends the command with one sentence where the machine or the operator, not the program, is at fault."""
    try:
        yield
    except (invitations.Refused, tokens.NotRetired, audit.NoAnchor) as error:
        _fail(str(error), 2)
    except Exception as error:  # told by their cause too, wherever it came from; what has no sentence goes on
        sentence = _sentence(error)
        if sentence is None:
            raise
        _fail(sentence, 1)


def _sentence(error: Exception) -> str | None:
    """What the machine or the operator has to mend; None for a fault of the program."""
    if isinstance(error, SAYING_WHY):
        return str(error)
    if isinstance(error, tokens.UnusableKeys):
        return f"DIARY_SIGNING_KEYS_DIRECTORY: {error}."
    from_database = connections.sentence(error)
    if from_database is None and isinstance(error, OSError) and error.filename is not None:
        return f"{error.strerror}: {error.filename}"
    return from_database


@contextmanager
def _owner_url(settings: Settings) -> Iterator[str]:
    """The URL for migrations and audits; without any, that of the demo's database, which runs meanwhile."""
    url = settings.migration_database_url or settings.database_url
    if url is not None:
        yield url.get_secret_value()
        return
    if not homes.holds_data(settings.state_directory / "postgres"):  # an empty one would be found in order
        _fail("DIARY_MIGRATION_DATABASE_URL is not set, and `pain-diary demo` has no database here.", 2)
    with _embedded(settings) as postgres:
        yield postgres.url("postgres", DATABASE)


@contextmanager
def _embedded(settings: Settings) -> Iterator[embedded.Server]:
    postgres = embedded.start(settings.state_directory / "postgres", settings.postgres_binaries)
    try:
        embedded.ensure_database(postgres, DATABASE)
        yield postgres
    finally:
        postgres.stop()
