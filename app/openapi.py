"""What the OpenAPI document says beyond what the routes declare."""

from typing import Any

from fastapi import FastAPI

from app.problems import PROBLEM_SCHEMA

DESCRIPTION = """\
A pain diary: phones log where it hurts, how long, how much and of what character; whoever the patient trusts
reads an honest timeline. Times are RFC 3339 with an offset, every failure is `application/problem+json`, and
`next_cursor`, ETags and ids are opaque. Sign in with `POST /v1/auth/sessions` and send the access token as a
bearer token.
"""


def install(app: FastAPI) -> None:
    """Makes `app.openapi()` answer the completed document, built once."""
    generate = app.openapi

    def complete() -> dict[str, Any]:
        if app.openapi_schema is None:
            document = generate()
            document["components"]["schemas"]["Problem"] = PROBLEM_SCHEMA
            app.openapi_schema = document
        return app.openapi_schema

    app.openapi = complete  # type: ignore[method-assign]  # the documented way to extend it
