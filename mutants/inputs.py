"""Mutants of what is taken in: each lets something in that should stay out, or keeps out what should come in."""

from mutants import Mutant

BASE = "app/schemas/base.py"
JSON_BODY = "app/http/json_body.py"
LANGUAGES = "app/domain/languages.py"
PUSH_BODY = "app/http/push_body.py"
RECORDS = "app/services/records.py"
STRICT_JSON = "app/http/strict_json.py"
SYNC = "app/services/sync.py"
SYNC_SCHEMA = "app/schemas/sync.py"
VALIDATION = "app/http/validation.py"

POISON = "tests/routers/test_poison.py"
TIMES = "tests/routers/test_plausible_times.py"
TAGS = "tests/domain/test_languages.py"
HOSTILE = "tests/attacks/test_bad_pushes.py"

INPUTS = (
    # A poison item of a push is refused alone.
    Mutant(
        "what cannot be read is refused with all others",
        JSON_BODY,
        "return await to_thread.run_sync(push_body.parse, body, refusal, limiter=_threads)",
        "raise",
        POISON,
    ),
    Mutant(
        "what is no mutation is refused with all others",
        SYNC_SCHEMA,
        'core_schema.union_schema([handler(source), as_sent], mode="left_to_right")',
        "handler(source)",
        POISON,
    ),
    Mutant("half an emoji is text", PUSH_BODY, r're.compile("[\0\ud800-\udfff]")', r're.compile("[\0]")', POISON),
    Mutant("NUL is text", PUSH_BODY, r're.compile("[\0\ud800-\udfff]")', r're.compile("[\ud800-\udfff]")', POISON),
    Mutant(
        "of a key that comes twice the last counts",
        PUSH_BODY,
        "members |= {name: TWICE for name in members if times[name] > 1}",
        "members |= {}",
        POISON,
    ),
    Mutant("what is too deep is cut off", PUSH_BODY, "return TOO_DEEP if", "return None if", POISON),
    Mutant(
        "what is not finite is null",
        PUSH_BODY,
        "return NOT_FINITE if number is None else number",
        "return number",
        POISON,
    ),
    Mutant(
        "a number that readers see otherwise is null",
        PUSH_BODY,
        "return TOO_LARGE if number is None else number",
        "return number",
        POISON,
    ),
    Mutant(
        "with a poison item the outbox is empty",
        SYNC,
        "outbox_empty=body.outbox_empty and not results",
        "outbox_empty=body.outbox_empty",
        POISON,
    ),
    Mutant(
        "who sends poison keeps everybody waiting",
        JSON_BODY,
        "await to_thread.run_sync(push_body.parse, body, refusal, limiter=_threads)",
        "push_body.parse(body, refusal)",
        HOSTILE,
    ),
    Mutant(
        "a hundred faults are told without a pause",
        SYNC,
        "            await asyncio.sleep(0)",
        "            pass",
        HOSTILE,
    ),
    Mutant("the faults of a whole list are collected", BASE, '"fail_fast": True', '"fail_fast": False', HOSTILE),
    # Numbers, times, texts, languages.
    Mutant(
        "an integer has no fraction of nothing",
        STRICT_JSON,
        "return int(number) if number.is_integer() and abs(number) <= MAX_INTEGER else number",
        "return number",
        POISON,
    ),
    Mutant("any time is taken", RECORDS, "if not is_plausible(", "if False and not is_plausible(", TIMES),
    Mutant("a plan has begun", RECORDS, 'planned=kind.holds == "interval"', "planned=False", TIMES),
    Mutant("a line ends as the platform writes it", BASE, "if self.pattern is _TEXT:", "if False:", TIMES),
    Mutant("a platform joins with hyphens", LANGUAGES, 'text.replace("_", "-")', "text", TAGS),
    Mutant("a variant comes twice", LANGUAGES, "return all(len(set(parts)) == len(parts)", "return all(True", TAGS),
    Mutant("no language has a script", LANGUAGES, 'r"(?:-[a-z]{4})?"', 'r""', TAGS),
    Mutant(
        "an unknown member of other programs has no name",
        VALIDATION,
        "[A-Za-z_][A-Za-z0-9_]*(-[a-z]+)*",
        "[a-z_][a-z0-9_]*(-[a-z]+)*",
        POISON,
    ),
)
