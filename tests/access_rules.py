"""Who is answered what, as a rule: the status follows from the operation, what it points at, and who calls.

For the operations of records the rule reads the kinds, so a kind adds nothing here. Those that are about something else
are listed, with the permission that they ask for. What does not follow is an exception, and listed too.

Callers:   expired      own token, past its end          caregiver    a patient with every scope
           revoked      own session, ended               granted      clinician with every scope
           disabled     granted, account disabled        member       clinician of an organisation with every scope
           borrowed     the patient's session, in the    <a scope>    clinician with this scope only
                        token of somebody else
           own          the patient
           other        another patient                  stranger     clinician without a grant
           pending      grant not confirmed yet          unverified   granted, but not verified
           withdrawn    grant revoked                    admin        granted, but an admin's account
           lapsed       grant expired
Resources: diary        the patient's own (for sessions: the caller's own); there is a profile already; a consent that
                        waits; a code that nobody has redeemed
           foreign      of a patient whom no caller knows; a code that somebody else has redeemed
           missing      does not exist
           erased       of an erased patient, with the same grants
           deleted      a deleted record of the diary; a consent that has ended; a code that is over
           absent       the diary, with the id of a record or consent of the foreign patient
           kind         the diary, with the id of a record of another kind
           without      the diary of a patient without a singleton, with the same grants
"""

from collections.abc import Iterator
from dataclasses import dataclass

from app import vocabularies
from app.schemas.kinds import KINDS, SCOPES
from app.schemas.records import AnyKind

OF_A_PATIENT = ("diary", "foreign", "missing", "erased")
SIGNED_OUT = ("anonymous", "expired", "revoked", "disabled", "borrowed")
STRANGERS = ("other", "pending", "withdrawn", "lapsed", "stranger", "unverified", "admin")
READERS: dict[str, frozenset[str]] = {
    **dict.fromkeys(("caregiver", "granted", "member"), vocabularies.load("scopes").codes),
    **{scope: frozenset({scope}) for scope in (*(f"{scope}:read" for scope in SCOPES), "adherence:read")},
}
CALLERS = (*SIGNED_OUT, "own", *READERS, *STRANGERS)

OPEN, ACCOUNT = frozenset({"nothing"}), frozenset({"an account"})
OWNER: frozenset[str] = frozenset()  # no scope will do
ANY_KIND = frozenset(kind.read_scope for kind in KINDS)
ANY_WRITE = frozenset(kind.write_scope for kind in KINDS)


@dataclass(frozen=True)
class Rule:
    """The scopes of which one will do, and the status that is then answered, by resource."""

    needs: frozenset[str]
    statuses: dict[str, int]


@dataclass(frozen=True)
class Row:
    """An operation on a resource, and the status for each caller."""

    operation: str
    resource: str
    statuses: dict[str, int]


LISTED = {
    "register": Rule(OPEN, {"-": 202}),
    "activate": Rule(OPEN, {"-": 204, "missing": 404}),
    "sign_in": Rule(OPEN, {"-": 201}),
    "refresh_tokens": Rule(OPEN, {"-": 200}),
    "read_jwks": Rule(OPEN, {"-": 200}),
    "list_vocabularies": Rule(OPEN, {"-": 200}),
    "read_vocabulary": Rule(OPEN, {"-": 200, "missing": 404}),
    "read_liveness": Rule(OPEN, {"-": 200}),
    "read_readiness": Rule(OPEN, {"-": 200}),
    "read_metrics": Rule(OPEN, {"-": 200}),
    # Pages, which the document does not show.
    "read_root": Rule(OPEN, {"-": 307}),
    "read_docs": Rule(OPEN, {"-": 200}),
    "read_redoc": Rule(OPEN, {"-": 200}),
    "read_activation": Rule(OPEN, {"-": 200}),
    "read_static": Rule(OPEN, {"-": 200, "missing": 404}),
    "read_guide": Rule(OPEN, {"-": 200, "missing": 404}),
    "list_problems": Rule(OPEN, {"-": 200}),
    "read_problem": Rule(OPEN, {"-": 200, "missing": 404}),
    "read_me": Rule(ACCOUNT, {"-": 200}),
    "list_sessions": Rule(ACCOUNT, {"-": 200}),
    "revoke_session": Rule(ACCOUNT, {"diary": 204, "foreign": 404, "missing": 404}),
    "revoke_other_sessions": Rule(ACCOUNT, {"-": 204}),
    "list_patients": Rule(ACCOUNT, {"-": 200}),
    "list_held_grants": Rule(ACCOUNT, {"-": 200}),
    "read_heads": Rule(ACCOUNT, {"-": 200}),
    "redeem_share_code": Rule(ACCOUNT, {"diary": 202, "foreign": 404, "missing": 404, "erased": 404, "deleted": 404}),
    "read_patient": Rule(ANY_KIND, {"diary": 200}),
    "read_timeline": Rule(ANY_KIND, {"diary": 200}),
    "pull_changes": Rule(ANY_KIND, {"diary": 200}),
    "compare_diaries": Rule(ANY_KIND, {"diary": 200}),
    "push_changes": Rule(ANY_WRITE, {"diary": 200}),
    "read_adherence": Rule(frozenset({"adherence:read"}), {"diary": 200}),
    "read_slots": Rule(frozenset({"treatments:read"}), {"diary": 200, "deleted": 410, "absent": 404, "kind": 404}),
    "create_share_code": Rule(OWNER, {"diary": 201}),
    "list_accesses": Rule(OWNER, {"diary": 200}),
    "list_grants": Rule(OWNER, {"diary": 200}),
    "confirm_grant": Rule(OWNER, {"diary": 200, "deleted": 410, "absent": 404}),
    "narrow_grant": Rule(OWNER, {"diary": 200, "deleted": 410, "absent": 404}),
    "revoke_grant": Rule(OWNER, {"diary": 204, "deleted": 204, "absent": 404}),
}
# Of a code: who may redeem none, and who offered it.
EXCEPTIONS = {
    ("redeem_share_code", "unverified"): 403,
    ("redeem_share_code", "admin"): 403,
    ("redeem_share_code", "own"): 404,
}
# Of records, by verb: those of which a diary has many, and those of which it has one.
OF_MANY = {
    "list": {"diary": 200},
    "create": {"diary": 201, "deleted": 410, "absent": 201, "kind": 409},
    "read": {"diary": 200, "deleted": 410, "absent": 404, "kind": 404},
    "list_versions": {"diary": 200, "deleted": 200, "absent": 404, "kind": 404},
    "replace": {"diary": 200, "deleted": 410, "absent": 404, "kind": 404},
    "revise": {"diary": 200, "deleted": 410, "absent": 404, "kind": 404},
    "delete": {"diary": 204, "deleted": 204, "absent": 404, "kind": 404},
    "undelete": {"diary": 200, "deleted": 200, "absent": 404, "kind": 404},
}
OF_ONE = {
    "create": {"diary": 200, "without": 201},  # the same again
    "read": {"diary": 200, "without": 404},
    "list_versions": {"diary": 200, "without": 404},
    "replace": {"diary": 200, "without": 404},
    "revise": {"diary": 200, "without": 404},
}
READING = ("list", "read", "list_versions")


def table() -> list[Row]:
    """Every operation on everything that it can be pointed at."""
    rules = LISTED | {name: rule for kind in KINDS for name, rule in rules_of(kind)}
    return [
        Row(name, resource, {caller: expected(name, rule, resource, caller) for caller in CALLERS})
        for name, rule in rules.items()
        for resource in resources(rule)
    ]


def operations_of(kind: AnyKind) -> dict[str, str]:
    """The operationIds of a kind, by verb."""
    verbs = OF_ONE if kind.holds == "singleton" else OF_MANY
    named = {"list": f"list_{kind.plural}", "list_versions": f"list_{kind.name}_versions"}
    return {verb: named.get(verb, f"{verb}_{kind.name}") for verb in verbs}


def rules_of(kind: AnyKind) -> Iterator[tuple[str, Rule]]:
    """The operations of a kind with their rules."""
    statuses = OF_ONE if kind.holds == "singleton" else OF_MANY
    for verb, operation in operations_of(kind).items():
        needed = kind.read_scope if verb in READING else kind.write_scope
        yield operation, Rule(frozenset({needed}), statuses[verb])


def resources(rule: Rule) -> tuple[str, ...]:
    """What an operation of this rule can be pointed at: a diary always in four ways."""
    of_a_diary = rule.needs not in (OPEN, ACCOUNT)
    return tuple(dict.fromkeys((*OF_A_PATIENT, *rule.statuses) if of_a_diary else rule.statuses))


def expected(operation: str, rule: Rule, resource: str, caller: str) -> int:
    """The status. Who is signed out learns nothing, who is a stranger no more than that nothing is there."""
    if rule.needs == OPEN:
        return rule.statuses[resource]
    if caller in SIGNED_OUT:
        return 401
    if rule.needs == ACCOUNT:
        return EXCEPTIONS.get((operation, caller), rule.statuses[resource])
    if caller in STRANGERS or resource in ("foreign", "missing"):
        return 404
    if resource == "erased":
        return 410
    if caller != "own" and rule.needs.isdisjoint(READERS[caller]):
        return 403
    if operation.startswith("undelete_") and resource == "deleted" and caller != "own":
        return 403  # its patient may, and who deleted it
    return rule.statuses[resource]
