"""Accounts, the devices they are signed in on, and the refresh tokens of those devices."""

from datetime import datetime
from uuid import UUID

from sqlalchemy import CheckConstraint, ForeignKey, Index, Text, text
from sqlalchemy.orm import Mapped, mapped_column

from app.domain.people import ROLES, Role
from app.models.base import Base, CreatedAt, NewId


class User(Base):
    """An account. `disabled_at` ends every right on the next request."""

    __tablename__ = "users"
    __table_args__ = (
        CheckConstraint("email = lower(email) AND length(email) BETWEEN 3 AND 320", name="email"),
        CheckConstraint(f"role IN {ROLES}", name="role"),
    )

    id: Mapped[NewId]
    email: Mapped[str] = mapped_column(unique=True)
    password_hash: Mapped[str]
    password_changed_at: Mapped[CreatedAt]
    display_name: Mapped[str]
    role: Mapped[Role] = mapped_column(Text)
    locale: Mapped[str]
    created_at: Mapped[CreatedAt]
    email_verified_at: Mapped[datetime | None]
    second_factor_at: Mapped[datetime | None]  # when one was enrolled
    disabled_at: Mapped[datetime | None]


class DeviceSession(Base):
    """One sign-in of one device; revoking it is felt by the next request, whatever its access token says."""

    __tablename__ = "sessions"
    __table_args__ = (
        Index(None, "user_id"),
        CheckConstraint("has_sent OR outbox_empty_at IS NULL", name="has_sent"),
        CheckConstraint(
            "ended_because IS NULL OR ended_because = 'token_reused' AND revoked_at IS NOT NULL", name="ended_because"
        ),
    )

    id: Mapped[NewId]
    user_id: Mapped[UUID] = mapped_column(ForeignKey("users.id", ondelete="CASCADE"))
    device_name: Mapped[str | None]
    created_at: Mapped[CreatedAt]
    last_seen_at: Mapped[CreatedAt]
    expires_at: Mapped[datetime]
    revoked_at: Mapped[datetime | None]
    ended_because: Mapped[str | None]  # what the person is told, where it was not their own doing
    network: Mapped[bytes | None]  # keyed hash of the network from which it last signed in or refreshed
    has_sent: Mapped[bool] = mapped_column(server_default=text("false"))  # the device has written to a diary
    # When it last confirmed that it had nothing left to send; when it signed in, while it has pushed and not said so.
    outbox_empty_at: Mapped[datetime | None]
    clock_skew_seconds: Mapped[int | None]  # by how much the device's clock was off when last it was far off


class RefreshToken(Base):
    """A link of a session's chain of refresh tokens, stored hashed. Those that were good once are not kept.

    `successor` was handed out and not seen again; `current` was used and waits until its successor is;
    `replaced` was a successor whose answer got lost and that a late retry made void.
    """

    __tablename__ = "refresh_tokens"
    __table_args__ = (
        CheckConstraint("state IN ('successor', 'current', 'replaced')", name="state"),
        CheckConstraint("(state = 'current') = (first_used_at IS NOT NULL)", name="first_used_at"),
        CheckConstraint("(state = 'replaced') = (replaced_at IS NOT NULL)", name="replaced_at"),
        Index(None, "session_id"),
        Index(
            "uq_refresh_tokens_successor",
            "session_id",
            unique=True,
            postgresql_where=text("state = 'successor'"),
        ),
        Index("uq_refresh_tokens_current", "session_id", unique=True, postgresql_where=text("state = 'current'")),
    )

    digest: Mapped[bytes] = mapped_column(primary_key=True)
    session_id: Mapped[UUID] = mapped_column(ForeignKey("sessions.id", ondelete="CASCADE"))
    state: Mapped[str]
    salt: Mapped[bytes]  # of which, under the server's secret, the token is made again
    handed_out_at: Mapped[datetime]
    first_used_at: Mapped[datetime | None]
    replaced_at: Mapped[datetime | None]


class SignInDelay(Base):
    """How long an account or an address has to wait after failed sign-ins; `key` is a keyed hash of either."""

    __tablename__ = "sign_in_delays"
    __table_args__ = (Index(None, "failed_at"),)

    key: Mapped[bytes] = mapped_column(primary_key=True)
    failures: Mapped[int]
    failed_at: Mapped[datetime]


class Invitation(Base):
    """A one-time link by which an operator lets somebody in: whoever follows it chooses the account's password."""

    __tablename__ = "invitations"

    digest: Mapped[bytes] = mapped_column(primary_key=True)
    user_id: Mapped[UUID] = mapped_column(ForeignKey("users.id", ondelete="CASCADE"))
    created_at: Mapped[CreatedAt]
    expires_at: Mapped[datetime]
    used_at: Mapped[datetime | None]
