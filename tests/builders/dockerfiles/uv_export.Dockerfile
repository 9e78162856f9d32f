FROM python:3.11-slim
COPY --from=ghcr.io/astral-sh/uv:0.9 /uv /bin/
COPY pyproject.toml uv.lock ./
RUN uv export --frozen --no-dev -o /tmp/requirements.txt
RUN uv pip install --system -r /tmp/requirements.txt
