"""The page to play on: `GET /`, made of the files in `playground/`.

It is one response. A Lambda environment answers one request at a time, so a page of a dozen files would start a dozen
environments, each with the model, to be shown once. So styles and scripts stand in the page. The Content Security
Policy (https://www.w3.org/TR/CSP3/) knows them by their hashes and allows nothing else: no other host, no other
script, and no text taken for HTML (Trusted Types, https://www.w3.org/TR/trusted-types/).
"""

import base64
import hashlib
import re
from functools import cache
from graphlib import TopologicalSorter
from importlib.resources import files
from typing import Annotated

from fastapi import APIRouter, Header
from fastapi.responses import HTMLResponse, Response

router = APIRouter(include_in_schema=False)

FOLDER = files("handler.api") / "playground"

_STYLE = re.compile(r'<link rel="stylesheet" href="(.+)">')
_SCRIPT = re.compile(r'<script type="module" src="(.+)"></script>')
_IMPORT = re.compile(r'^import \{.*\} from "\./(.+)";\n', re.MULTILINE)
_EXPORT = re.compile(r"^export ", re.MULTILINE)


@router.get("/")
async def playground(if_none_match: Annotated[str, Header()] = "") -> Response:
    """The page, or that it is still the one the browser has."""
    page, headers = _page()
    if headers["ETag"] in if_none_match:
        return Response(status_code=304, headers=headers)
    return HTMLResponse(page, headers=headers)


@cache
def _page() -> tuple[str, dict[str, str]]:
    """The page and its headers, put together when it is asked for first."""
    styles: list[str] = []
    page = _STYLE.sub(lambda link: f"<style>{_kept(_read(link[1]), styles)}</style>", _read("page.html"))
    scripts: list[str] = []
    page = _SCRIPT.sub(lambda tag: f'<script type="module">{_kept(_joined(tag[1]), scripts)}</script>', page)
    policy = {
        "default-src": ["'none'"],
        "script-src": scripts,
        "style-src": styles,
        "img-src": ["data:"],  # the icon
        "connect-src": ["'self'"],
        "base-uri": ["'none'"],
        "form-action": ["'none'"],
        "frame-ancestors": ["'none'"],
        "require-trusted-types-for": ["'script'"],
        "trusted-types": ["'none'"],
    }
    return (
        page,
        {
            "Cache-Control": "no-cache",  # kept, and asked for by its tag: a new version is there at once
            "Content-Security-Policy": "; ".join(f"{name} {' '.join(sources)}" for name, sources in policy.items()),
            "Cross-Origin-Opener-Policy": "same-origin",
            "ETag": f'"{hashlib.sha256(page.encode()).hexdigest()[:32]}"',
            "Referrer-Policy": "no-referrer",
            "X-Content-Type-Options": "nosniff",
        },
    )


def _read(name: str) -> str:
    return (FOLDER / name).read_text(encoding="utf-8")


def _kept(text: str, hashes: list[str]) -> str:
    """The text, its hash noted as the policy writes it."""
    digest = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
    hashes.append(f"'sha256-{digest}'")
    return text


def _joined(name: str) -> str:
    """A module and all it imports as one module, each behind those it needs: what was exported is simply there."""
    sources: dict[str, str] = {}

    def read(module: str) -> None:
        if module not in sources:
            sources[module] = _read(module)
            for needed in _IMPORT.findall(sources[module]):
                read(needed)

    read(name)
    needs = {module: _IMPORT.findall(source) for module, source in sources.items()}
    order = TopologicalSorter(needs).static_order()
    return "\n".join(_EXPORT.sub("", _IMPORT.sub("", sources[module])) for module in order)
