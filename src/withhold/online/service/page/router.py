"""The files of the page, with headers that let it run its own script and speak to its own service, and nothing else."""

from importlib.resources import files

from fastapi import APIRouter, Response

router = APIRouter(include_in_schema=False)

POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src data:; connect-src 'self'; base-uri 'none'; "
    "form-action 'none'; frame-ancestors 'none'"
)
HEADERS = {
    "Content-Security-Policy": POLICY,
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cache-Control": "no-cache",
}


@router.get("/")
async def index() -> Response:
    """Give the page."""
    return _file("index.html", "text/html")


@router.get("/page/page.css")
async def style() -> Response:
    """Give the page's style sheet."""
    return _file("page.css", "text/css")


@router.get("/page/page.js")
async def script() -> Response:
    """Give the page's script."""
    return _file("page.js", "text/javascript")


def _file(name: str, media_type: str) -> Response:
    content = (files(__package__) / name).read_bytes()
    return Response(content, media_type=media_type, headers=HEADERS)
