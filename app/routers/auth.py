"""Registering, signing in, refreshing, and the keys that verify access tokens."""

from collections.abc import Sequence

from fastapi import APIRouter, Depends, Request, Response

from app.errors import AccountNotReady, NotFound, SignInFailed, TooManyRequests, Unauthenticated, Unavailable
from app.http import problems
from app.http.deps import Now, Parts, counts_as, of_account_counts_as
from app.schemas.auth import (
    JWKS_EXAMPLE,
    ActivationIn,
    EndedSessionOut,
    RefreshIn,
    RegistrationIn,
    RegistrationOut,
    SignInIn,
    TokensOut,
    UserRef,
)
from app.schemas.base import Json
from app.services import auth, costs, invitations, sessions
from app.services.sessions import SignedIn

router = APIRouter(tags=["sign-in"])


@router.post(
    "/v1/auth/register",
    dependencies=[Depends(counts_as(costs.PASSWORD))],
    status_code=202,
    summary="Register a patient account",
    responses=problems.responses(TooManyRequests, Unavailable),
)
async def register(request: Request, parts: Parts, now: Now, body: RegistrationIn) -> RegistrationOut:
    """Makes an account with an empty diary. The answer does not tell whether the address had one before."""
    address = request.scope["state"]["address"]
    await auth.register(parts.database, body, address, parts.secret, now)
    return RegistrationOut(status="accepted")


@router.post(
    "/v1/auth/activate",
    dependencies=[Depends(counts_as(costs.PASSWORD))],
    status_code=204,
    response_class=Response,
    summary="Activate an account",
    responses=problems.responses(NotFound, Unavailable),
)
async def activate(parts: Parts, now: Now, body: ActivationIn) -> None:
    """Follows a one-time link that an operator made: sets the password, and signs every device out."""
    await invitations.accept(parts.database, body.token, body.password, now)


@router.post(
    "/v1/auth/sessions",
    dependencies=[Depends(counts_as(costs.PASSWORD))],
    status_code=201,
    summary="Sign in",
    response_model_exclude_none=True,
    responses=problems.responses(SignInFailed, AccountNotReady, TooManyRequests, Unavailable),
)
async def sign_in(request: Request, parts: Parts, now: Now, body: SignInIn) -> TokensOut:
    """Password to an access token and a refresh token for this device. Where failed attempts of others make one wait,
    the answer to a `challenge` spares that; a network on which one was signed in before does not wait for them."""
    address = request.scope["state"]["address"]
    signed_in, ended = await auth.sign_in(parts.database, parts.settings, body, address, parts.secret, now)
    return _tokens(parts, signed_in, now, [EndedSessionOut(**one) for one in ended])


@router.post(
    "/v1/auth/refresh",
    dependencies=[Depends(of_account_counts_as(costs.REFRESH))],
    summary="Refresh the tokens",
    response_model_exclude_none=True,
    responses=problems.responses(Unauthenticated, Unavailable),
)
async def refresh_tokens(request: Request, parts: Parts, now: Now, body: RefreshIn) -> TokensOut:
    """The next pair of tokens. If the answer gets lost, send the same refresh token again: it stays good until its
    successor is first used, for 24 hours at most. For ten minutes the same token gets the same successor; after that
    a retry makes the one before void. A token that is no longer good ends the session, whoever sent it."""
    address = request.scope["state"]["address"]
    signed_in = await sessions.refresh(parts.database, parts.settings, body.refresh_token, address, parts.secret, now)
    return _tokens(parts, signed_in, now)


@router.get(
    "/.well-known/jwks.json",
    summary="The public keys",
    responses={200: {"content": {"application/json": {"schema": {"required": ["keys"]}, "example": JWKS_EXAMPLE}}}},
)
async def read_jwks(parts: Parts) -> Json:
    """The keys that verify access tokens, by `kid`; a new one appears here before it signs."""
    return {**parts.tokens.jwks()}


def _tokens(parts: Parts, signed_in: SignedIn, now: Now, ended: Sequence[EndedSessionOut] = ()) -> TokensOut:
    return TokensOut(
        access_token=parts.tokens.issue(signed_in.user_id, signed_in.session_id, signed_in.role, now),
        token_type="Bearer",  # noqa: S106 - the type's name
        expires_in=parts.settings.access_token_seconds,
        refresh_token=signed_in.refresh_token,
        session_id=str(signed_in.session_id),
        user=UserRef(
            id=str(signed_in.user_id),
            role=signed_in.role,
            patient_id=str(signed_in.patient_id) if signed_in.patient_id else None,
        ),
        ended_sessions=list(ended) or None,
    )
