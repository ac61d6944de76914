import re

import httpx
import pytest
from fastapi import FastAPI

from withhold.online.service.page.router import router

pytestmark = pytest.mark.anyio

FILES = {"/": "text/html", "/page/page.css": "text/css", "/page/page.js": "text/javascript"}


async def get(address: str) -> httpx.Response:
    app = FastAPI()
    app.include_router(router)
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://service") as http:
        return await http.get(address)


@pytest.mark.parametrize("address", FILES)
async def test_each_file_comes_with_a_policy_that_lets_nothing_else_in(address: str) -> None:
    answer = await get(address)
    assert answer.status_code == 200
    assert answer.headers["content-type"] == f"{FILES[address]}; charset=utf-8"
    policy = dict(part.split(" ", 1) for part in answer.headers["content-security-policy"].split("; "))
    assert policy["default-src"] == "'none'"
    assert policy["script-src"] == policy["style-src"] == policy["connect-src"] == "'self'"
    assert policy["frame-ancestors"] == policy["form-action"] == policy["base-uri"] == "'none'"
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["referrer-policy"] == "no-referrer"


async def test_the_page_has_no_inline_script_and_every_address_is_relative() -> None:
    """So that it also works under a path of a proxy."""
    page = (await get("/")).text
    assert re.findall(r"<script[^>]*>", page) == ['<script src="page/page.js" defer>']
    assert not re.search(r"\son\w+=|style=", page)
    addresses = re.findall(r'(?:href|src)="([^"]*)"', page)
    assert addresses == ["data:,", "page/page.css", "page/page.js", "#result", "docs"]
    assert "://" not in (await get("/page/page.js")).text + (await get("/page/page.css")).text


async def test_there_are_no_other_files() -> None:
    for address in ("/page/router.py", "/page/index.html", "/page/..%2fapp.py"):
        assert (await get(address)).status_code == 404
