"""dashboard: one page that shows which services of the system answer."""

import os

import httpx
from flask import Flask, jsonify, render_template_string

SERVICES = os.environ.get("SERVICES", "agente-deposito agente-negocio ml").split()
PORT = int(os.environ.get("SERVICES_PORT", "8000"))

PAGE = """<!doctype html>
<html lang="en">
<head><meta charset="utf-8"><meta http-equiv="refresh" content="10"><title>staging</title></head>
<body>
<h1>staging</h1>
<table>
{% for name, healthy, details in services %}
<tr><th>{{ name }}</th><td>{{ "healthy" if healthy else "down" }}</td><td>{{ details }}</td></tr>
{% endfor %}
</table>
</body>
</html>
"""

app = Flask(__name__)


def ask(name: str) -> tuple[str, bool, str]:
    try:
        answer = httpx.get(f"http://{name}:{PORT}/health", timeout=2).raise_for_status().json()
    except (httpx.HTTPError, ValueError) as error:
        return name, False, type(error).__name__
    return name, True, ", ".join(f"{key} {value}" for key, value in answer.items() if key != "status")


@app.get("/health")
def health():
    return jsonify(status="ok")


@app.get("/")
def index():
    return render_template_string(PAGE, services=[ask(name) for name in SERVICES])
