"""The OpenAPI page: the API in plain HTML, made from its description, without scripts and without other hosts."""

from __future__ import annotations

from html import escape
from typing import Any

_STYLE = (
    "body{font:16px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem;"
    "color:#222;background:#fff}"
    "code,h2{font-family:ui-monospace,monospace}h2{font-size:1.1rem;margin-top:2rem}table{border-collapse:collapse}"
    "td,th{padding:.2rem .8rem .2rem 0;text-align:left;vertical-align:top}"
    "@media(prefers-color-scheme:dark){body{color:#ddd;background:#111}a{color:#8ab4f8}}"
)
POLICY = "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'"


def api_page(schema: dict[str, Any]) -> str:
    """A page of an OpenAPI description."""
    parts = [
        "<!doctype html><html lang='en'><head><meta charset='utf-8'>",
        "<meta name='viewport' content='width=device-width'>",
        f"<title>{escape(schema['info']['title'])}</title><style>{_STYLE}</style></head><body>",
        f"<h1>{escape(schema['info']['title'])} {escape(schema['info']['version'])}</h1>",
        f"<p>{escape(schema['info'].get('description', ''))}</p>",
        "<p>For programs: <a href='/openapi.json'>openapi.json</a></p>",
    ]
    for path, methods in schema["paths"].items():
        parts += [_operation(method, path, operation) for method, operation in methods.items()]
    return "".join([*parts, "</body></html>"])


def _operation(method: str, path: str, operation: dict[str, Any]) -> str:
    rows = [(one["name"], one.get("schema", {}), one.get("required", False)) for one in operation.get("parameters", ())]
    for content in operation.get("requestBody", {}).get("content", {}).values():
        body = content["schema"]
        needed = body.get("required", ())
        rows += [(name, value, name in needed) for name, value in body.get("properties", {}).items()]
    table = "".join(
        f"<tr><td><code>{escape(name)}</code></td><td>{escape(str(value.get('type', '')))}"
        f"{', required' if needed else ''}</td><td>{escape(value.get('description', ''))}</td></tr>"
        for name, value, needed in rows
    )
    answers = ", ".join(
        f"<code>{escape(code)}</code> {escape(answer.get('description', ''))}"
        for code, answer in operation["responses"].items()
    )
    return (
        f"<h2>{escape(method.upper())} {escape(path)}</h2><p>{escape(operation.get('description', ''))}</p>"
        f"<table>{table}</table><p>Answers: {answers}</p>"
    )
