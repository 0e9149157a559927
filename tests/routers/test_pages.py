"""The pages for people: complete, offline, and strict about scripts."""

import re

import httpx
import pytest
from fastapi import FastAPI

from app.config import Settings
from app.http import middleware, problems
from app.routers import pages

pytestmark = pytest.mark.anyio

GUIDES = ["/guides/integrate", "/guides/sync", "/guides/adherence"]
PROBLEMS = [f"/problems/{kind.slug}" for kind in problems.problem_types()]
PAGES = ["/docs", "/redoc", "/activate", *GUIDES, "/problems", *PROBLEMS]


@pytest.fixture
def browser() -> httpx.AsyncClient:
    app = FastAPI(title="Pain diary", docs_url=None, redoc_url=None)
    app.include_router(pages.router)
    problems.install(app)
    middleware.install(app, Settings(environment="development"))
    return httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://test")


async def test_the_root_leads_to_the_docs_by_whatever_name_it_was_reached(browser: httpx.AsyncClient) -> None:
    response = await browser.get("/", headers={"Host": "evil.example"})
    assert (response.status_code, response.headers["location"]) == (307, "/docs")
    assert response.headers["x-content-type-options"] == "nosniff"
    assert response.content == b""


@pytest.mark.parametrize("page", PAGES)
async def test_a_page_and_all_it_needs_come_from_here(browser: httpx.AsyncClient, page: str) -> None:
    response = await browser.get(page)
    assert response.headers["content-type"] == "text/html; charset=utf-8"
    needed = re.findall(r'(?:src|href|data-openapi)="([^"]*)"', response.text)
    assert needed
    for address in needed:
        assert address.startswith("/")
        assert (await browser.get(address)).status_code == 200, address


@pytest.mark.parametrize("page", PAGES)
async def test_no_page_holds_or_allows_an_inline_script(browser: httpx.AsyncClient, page: str) -> None:
    response = await browser.get(page)
    assert re.findall(r"<script(?![^>]* src=)", response.text) == []
    policy = response.headers["content-security-policy"]
    assert "default-src 'none'; script-src 'self';" in policy
    assert response.headers["x-content-type-options"] == "nosniff"


@pytest.mark.parametrize(
    ("name", "media_type"),
    [
        ("style.css", "text/css"),
        ("swagger-ui.css", "text/css"),
        ("docs.js", "javascript"),
        ("activate.js", "javascript"),
        ("redoc.standalone.js", "javascript"),
        ("favicon.png", "image/png"),
    ],
)
async def test_files_have_their_type_and_may_be_cached(browser: httpx.AsyncClient, name: str, media_type: str) -> None:
    response = await browser.get(f"/docs/static/{name}")
    assert media_type in response.headers["content-type"]
    assert response.headers["cache-control"] == "public, max-age=3600"


@pytest.mark.parametrize("path", ["/docs/static/docs.html", "/docs/static/..%2fconfig.py", "/problems/unknown"])
async def test_what_is_no_page_is_not_found(browser: httpx.AsyncClient, path: str) -> None:
    response = await browser.get(path)
    assert (response.status_code, response.json()["type"]) == (404, "/problems/not-found")


async def test_a_problem_page_says_what_to_do_and_shows_an_example(browser: httpx.AsyncClient) -> None:
    page = (await browser.get("/problems/stale")).text
    assert "The record has changed since you read it" in page
    assert "Look at <code>current</code>, decide again" in page
    assert "&quot;status&quot;: 412" in page
    assert page.count("<title>") == 1


async def test_the_index_names_every_kind(browser: httpx.AsyncClient) -> None:
    index = (await browser.get("/problems")).text
    linked = set(re.findall(r'href="/problems/([^"]+)"', index))
    assert linked == {kind.slug for kind in problems.problem_types()}


async def test_the_activation_page_keeps_its_token_and_sends_it_to_the_api_only(browser: httpx.AsyncClient) -> None:
    page = await browser.get("/activate")
    assert page.headers["cache-control"] == "no-store"
    assert page.headers["referrer-policy"] == "no-referrer"
    assert page.headers["content-security-policy"] == pages.POLICY
    script = (await browser.get("/docs/static/activate.js")).text
    assert re.findall(r"fetch\(([^,]+),", script) == ['"/v1/auth/activate"']
    assert set(re.findall(r'"(\w+)"', re.findall(r"\[([^]]+)\]\.map", script)[0])) <= set(
        re.findall(r'id="(\w+)"', page.text)
    )
