"""What can go wrong, as one tree. Services raise; the edge (`problems.py`) chooses how it looks on the wire.

    Problem
    ├── BadRequest               400  malformed: the bytes are no acceptable JSON, the cursor is not ours
    │   └── InvalidCursor        400
    ├── Unauthenticated          401  no valid access token, or its session ended
    │   └── SignInFailed         401  address, password or second factor do not fit together
    ├── Forbidden                403
    │   ├── InsufficientScope    403  a relationship exists, this right does not
    │   ├── StepUpRequired       403  the sign-in is not fresh enough for this
    │   ├── NotVerified          403  a clinician without verification, or without an organisation
    │   └── AccountNotReady      403  e-mail not verified, second factor not enrolled
    ├── NotFound                 404  also: a patient one may not know exists
    ├── MethodNotAllowed         405
    ├── RequestTimeout           408  the request did not arrive in time
    ├── Conflict                 409  the id is taken by other content; carries `current`
    ├── Gone                     410  deleted or erased
    │   ├── ResyncRequired       410  the place in the changes is gone; carries `action`
    │   └── ConsentChanged       410  the page before was of another consent
    ├── Stale                    412  If-Match names a version that is not current; carries `current`
    ├── TooLarge                 413
    ├── UnsupportedMediaType     415
    ├── Invalid                  422  understood, but against the rules; carries `errors`
    ├── PreconditionRequired     428  If-Match is missing
    ├── TooManyRequests          429  carries Retry-After
    │   └── QuotaUsed            429  the diary has seen as many changes today as it may
    ├── Internal                 500
    └── Unavailable              503  carries Retry-After
        └── NotReady             503  of /readyz only; carries `reads` and `writes`

No class takes a caller's value: a problem says what is wrong and where, never what was sent.
"""

from dataclasses import dataclass
from random import randint
from typing import ClassVar, TypedDict, Unpack


@dataclass(frozen=True)
class Fault:
    """One fault of a body or parameter: a JSON pointer (or parameter name), a code and a sentence."""

    pointer: str
    code: str
    detail: str


class Extras(TypedDict, total=False):
    """What a problem may carry beside its detail."""

    faults: tuple[Fault, ...]
    current: bytes | None
    etag: str | None
    retry_after: int | None
    headers: dict[str, str] | None


class Problem(Exception):
    """The root: a status, a slug (the tail of its `type`), a title and the advice on its page."""

    status: ClassVar[int] = 500
    slug: ClassVar[str] = "internal-error"
    title: ClassVar[str] = "Something went wrong on our side"
    advice: ClassVar[str] = "Retry later; if it stays, send us the request id."

    def __init__(
        self,
        detail: str | None = None,
        *,
        faults: tuple[Fault, ...] = (),
        current: bytes | None = None,
        etag: str | None = None,
        retry_after: int | None = None,
        headers: dict[str, str] | None = None,
    ) -> None:
        super().__init__(self.title)
        self.detail = detail or self.advice
        self.faults = faults
        self.current = current  # the server's copy as stored JSON, only where the caller may read it
        self.etag = etag
        self.retry_after = retry_after
        self.headers = headers or {}


class BadRequest(Problem):
    status = 400
    slug = "malformed-request"
    title = "The request is malformed"
    advice = "Send one JSON value in strict UTF-8: no duplicate keys, no NaN, at most 32 levels deep."


class InvalidCursor(BadRequest):
    slug = "cursor-invalid"
    title = "The cursor is not valid here"
    advice = "Use a `next_cursor` exactly as it was answered, with the same path and filters, or start without one."


class Unauthenticated(Problem):
    status = 401
    slug = "unauthenticated"
    title = "Sign-in is needed"
    advice = "Send `Authorization: Bearer <access token>`; refresh the token or sign in again if it has ended."


class SignInFailed(Unauthenticated):
    slug = "sign-in-failed"
    title = "Sign-in failed"
    advice = "The address, the password or the second factor is not right."


class Forbidden(Problem):
    status = 403
    slug = "forbidden"
    title = "Not allowed"
    advice = "Your role does not allow this call."


class InsufficientScope(Forbidden):
    slug = "insufficient-scope"
    title = "The patient's consent does not cover this"
    advice = "Ask the patient for a grant with the scope that this call needs."


class StepUpRequired(Forbidden):
    slug = "step-up-required"
    title = "A fresh sign-in is needed"
    advice = "Sign in again with the password on this device, then repeat the call within 15 minutes."


class NotVerified(Forbidden):
    slug = "not-verified"
    title = "The account is not verified for this"
    advice = "Ask the operator to verify the clinician, or to add the account to an organisation."


class AccountNotReady(Forbidden):
    slug = "account-not-ready"
    title = "The account is not ready yet"
    advice = "Verify the e-mail address and enrol a second factor first."


class NotFound(Problem):
    status = 404
    slug = "not-found"
    title = "Nothing here"
    advice = "There is nothing at this address that you may see."


class MethodNotAllowed(Problem):
    status = 405
    slug = "method-not-allowed"
    title = "The method is not allowed here"
    advice = "The `Allow` header names the methods of this address."


class RequestTimeout(Problem):
    status = 408
    slug = "request-timeout"
    title = "The request did not arrive in time"
    advice = "Send the request again, over a better connection or in smaller parts."


class Conflict(Problem):
    status = 409
    slug = "conflict"
    title = "The id is taken by other content"
    advice = "Compare with `current`; change it with PUT or PATCH, or choose a new id."


class Gone(Problem):
    status = 410
    slug = "gone"
    title = "It was deleted"
    advice = "A deleted record stays deleted until its patient brings it back by `undelete`; a new one needs a new id."


class ResyncRequired(Gone):
    slug = "resync-required"
    title = "The diary has to be pulled anew"
    advice = (
        "`action` is `reload` (consent or schema changed: forget the copy and pull from the start) or `reoffer` (the "
        "server was restored: pull from the start, then push again whatever of one's own it lacks)."
    )

    def __init__(self, action: str = "reload", **extras: Unpack[Extras]) -> None:
        super().__init__(**extras)
        self.action = action


class ConsentChanged(Gone):
    slug = "consent-changed"
    title = "The consent has changed since the page before"
    advice = "What it covers now may be less than what you hold: forget that, and begin again without a cursor."


class Stale(Problem):
    status = 412
    slug = "stale"
    title = "The record has changed since you read it"
    advice = "Look at `current`, decide again, and send its ETag in `If-Match`."


class TooLarge(Problem):
    status = 413
    slug = "too-large"
    title = "The body is too large"
    advice = "Send at most 512 KiB."


class UnsupportedMediaType(Problem):
    status = 415
    slug = "unsupported-media-type"
    title = "The body is not JSON"
    advice = "Send `Content-Type: application/json` (a PATCH may say `application/merge-patch+json`), plain or in gzip."


class Invalid(Problem):
    status = 422
    slug = "invalid"
    title = "The request breaks a rule"
    advice = "Each item of `errors` points at a place and says what is wrong there."


class PreconditionRequired(Problem):
    status = 428
    slug = "precondition-required"
    title = "If-Match is needed"
    advice = "Send `If-Match` with the ETag of the version that you read."


class TooManyRequests(Problem):
    status = 429
    slug = "too-many-requests"
    title = "Too many requests"
    advice = "Wait as long as `Retry-After` says; where there is a `challenge`, its answer spares the wait."

    def __init__(self, detail: str | None = None, *, challenge: str | None = None, **extras: Unpack[Extras]) -> None:
        super().__init__(detail, **extras)
        self.challenge = challenge  # of a proof of work


class QuotaUsed(TooManyRequests):
    slug = "quota-used"
    title = "The diary has seen as many changes today as it may"
    advice = "Nothing of it was stored. Keep it and send it again tomorrow (UTC): `Retry-After` says when."


class Internal(Problem):
    pass


class Unavailable(Problem):
    status = 503
    slug = "unavailable"
    title = "The service is busy or starting"
    advice = "Send the same request again after `Retry-After` seconds; doing so is safe."

    def __init__(self, detail: str | None = None, **extras: Unpack[Extras]) -> None:
        super().__init__(detail, **extras)
        if self.retry_after is None:
            self.retry_after = randint(1, 5)  # noqa: S311 - different for each, or all come back at once


class NotReady(Unavailable):
    slug = "not-ready"
    title = "The service cannot do everything now"
    advice = "Send no requests here until this address answers 200; `reads` and `writes` say what is served meanwhile."

    def __init__(
        self, detail: str | None = None, *, reads: bool = False, writes: bool = False, **extras: Unpack[Extras]
    ) -> None:
        super().__init__(detail, **extras)
        self.reads = reads
        self.writes = writes
