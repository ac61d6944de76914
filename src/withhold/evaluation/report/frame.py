"""What every report has in common: one self-contained page that a browser shows without any network."""

import base64
import hashlib
from pathlib import Path
from typing import Any

import jinja2
import markupsafe

from withhold.evaluation.report import words

SHARED = Path(__file__).parent
STYLE, SCRIPT, TEMPLATE = "style.css", "script.js", "template.html"


def render_page(folder: Path, content: dict[str, Any]) -> str:
    """Draw a page from the template of a folder; equal contents give equal pages.

    Everything is inside: style, script, drawings and pictures. The page forbids itself every request, and every script
    but its own, whose hash it states.

    Args:
        folder: With a `template.html` that extends `frame.html`, and, where it needs more than the shared style, a
            `style.css`.
        content: What the template names.
    """
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader([folder, SHARED]),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(percent=words.percent, spread=words.spread)
    script = (SHARED / SCRIPT).read_text(encoding="utf-8")
    page = environment.get_template(TEMPLATE).render(
        style=markupsafe.Markup(_style(folder)),
        script=markupsafe.Markup(script),
        script_hash=base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
        flat=words.flat,
        **content,
    )
    return page.strip() + "\n"


def _style(folder: Path) -> str:
    sheets = dict.fromkeys((SHARED / STYLE, folder / STYLE))
    return "\n".join(sheet.read_text(encoding="utf-8") for sheet in sheets if sheet.is_file())
