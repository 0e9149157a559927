"""Pages for people: the API to try and to read, and one page per type of problem. All work offline."""

import json
import re
from functools import cache
from html import escape
from importlib.resources import files
from string import Template

from fastapi import APIRouter, Request
from fastapi.responses import FileResponse, HTMLResponse, RedirectResponse, Response

from app.errors import NotFound, Problem
from app.http import problems

POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
# Redoc writes its styles into the page and searches in a worker of its own making.
REDOC_POLICY = POLICY.replace("style-src 'self'", "style-src 'self' 'unsafe-inline'") + "; worker-src blob:"

_PAGES = files("app") / "pages"
_VENDOR = files("fastapi_offline") / "static"
# Only what is named here is served: a name in an address never becomes a path.
_STATIC = {
    "style.css": _PAGES,
    "docs.js": _PAGES,
    "activate.js": _PAGES,
    "redoc.js": _PAGES,
    "favicon.png": _VENDOR,
    "swagger-ui.css": _VENDOR,
    "swagger-ui-bundle.js": _VENDOR,
    "redoc.standalone.js": _VENDOR,
}
_GUIDES = ("integrate", "sync", "adherence")  # of docs/
_PROBLEMS = {one.slug: one for one in sorted(problems.problem_types(), key=lambda one: one.status)}

router = APIRouter(include_in_schema=False)


@router.get("/")
async def read_root() -> RedirectResponse:
    """Leads to the docs, whatever name the caller knows this host by."""
    return RedirectResponse("/docs")


@router.get("/docs")
async def read_docs(request: Request) -> HTMLResponse:
    """The API to try out, in Swagger UI."""
    return _page("docs.html", title=request.app.title, openapi=request.app.openapi_url)


@router.get("/redoc")
async def read_redoc(request: Request) -> HTMLResponse:
    """The API to read, in Redoc."""
    page = _page("redoc.html", title=request.app.title, openapi=request.app.openapi_url)
    page.headers["Content-Security-Policy"] = REDOC_POLICY
    return page


@router.get("/activate")
async def read_activation() -> HTMLResponse:
    """Where a one-time link leads: its token stays behind the #, and goes to the API only."""
    return _page("activate.html")


@router.get("/docs/static/{name}")
async def read_static(name: str) -> Response:
    """A file of the pages."""
    if name not in _STATIC:
        raise NotFound
    return FileResponse(str(_STATIC[name] / name), headers={"Cache-Control": "public, max-age=3600"})


@router.get("/guides/{name}")
async def read_guide(name: str) -> HTMLResponse:
    """A guide for those who write clients, as the Markdown it is written in."""
    if name not in _GUIDES:
        raise NotFound
    text = (_PAGES / f"{name}.md").read_text()
    title = text.partition("\n")[0].removeprefix("# ")
    return _page("page.html", title=escape(title), content=f'<pre class="guide">{escape(text)}</pre>')


@router.get("/problems")
async def list_problems() -> HTMLResponse:
    """All types of problems."""
    items = "".join(
        f'<li><a href="/problems/{one.slug}"><span class="status">{one.status}</span>'
        f"<span>{escape(one.title)}</span></a></li>"
        for one in _PROBLEMS.values()
    )
    intro = (
        "Every failure is answered as <code>application/problem+json</code> (RFC 9457). "
        "Its <code>type</code> is the address of one of these pages."
    )
    return _page("page.html", title="Problems", content=f'<h1>Problems</h1><p>{intro}</p><ul class="list">{items}</ul>')


@router.get("/problems/{slug}")
async def read_problem(slug: str) -> HTMLResponse:
    """What one type of problem means and what to do about it."""
    if slug not in _PROBLEMS:
        raise NotFound
    problem_type = _PROBLEMS[slug]
    return _page("page.html", title=escape(problem_type.title), content=_explain(problem_type))


def _explain(problem_type: type[Problem]) -> str:
    example = problems.example(problem_type)
    return (
        f'<p class="status">{problem_type.status}</p><h1>{escape(problem_type.title)}</h1>'
        f'<p class="advice">{_prose(problem_type.advice)}</p>'
        f"<pre>{escape(json.dumps(example, indent=2, ensure_ascii=False))}</pre>"
        '<p class="quiet">The <code>request_id</code> finds this one request in our logs. '
        "Nothing that was sent is repeated in an answer or a log.</p>"
    )


def _prose(text: str) -> str:
    return re.sub(r"`([^`]+)`", r"<code>\1</code>", escape(text))


def _page(template: str, **texts: str) -> HTMLResponse:
    return HTMLResponse(_template(template).substitute(texts), headers={"Content-Security-Policy": POLICY})


@cache
def _template(name: str) -> Template:
    return Template((_PAGES / name).read_text())
