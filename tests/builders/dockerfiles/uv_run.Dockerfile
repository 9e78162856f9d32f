FROM python:3.11-slim
COPY . .
RUN uv add flask
RUN uv run pytest
