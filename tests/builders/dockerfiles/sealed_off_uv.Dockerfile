FROM python:3.11-slim
ENV UV_NO_CONFIG=1
RUN uv pip install --system flask
RUN UV_NO_CONFIG=0 uv pip install --system --config-file /uv.toml gunicorn
