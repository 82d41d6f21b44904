"""The API's documentation page, its assets served from the image: the page asks no other host for anything."""

from importlib.resources import files

from fastapi import APIRouter
from fastapi.openapi.docs import get_swagger_ui_html
from fastapi.responses import HTMLResponse, Response

router = APIRouter(include_in_schema=False)

# Swagger UI as the fastapi-swagger package bundles it.
_ASSETS = files("fastapi_swagger") / "resources"
_MEDIA_TYPES = {
    "swagger-ui-bundle.js": "text/javascript",
    "swagger-ui.css": "text/css",
    "favicon-32x32.png": "image/png",
}


@router.get("/docs")
async def docs() -> HTMLResponse:
    """The page; its links are relative, so a stage path does no harm."""
    return get_swagger_ui_html(
        openapi_url="openapi.json",
        title="GPT-2, serverless",
        swagger_js_url="docs/swagger-ui-bundle.js",
        swagger_css_url="docs/swagger-ui.css",
        swagger_favicon_url="docs/favicon-32x32.png",
    )


def _add_asset(name: str, media_type: str) -> None:
    async def asset() -> Response:
        content = (_ASSETS / name).read_bytes()
        return Response(content, media_type=media_type, headers={"Cache-Control": "public, max-age=86400"})

    router.add_api_route(f"/docs/{name}", asset, methods=["GET"])


for _name, _media_type in _MEDIA_TYPES.items():
    _add_asset(_name, _media_type)
