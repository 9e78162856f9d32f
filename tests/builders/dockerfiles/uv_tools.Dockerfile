FROM python:3.11-slim
RUN pip install uv
RUN uv tool install ruff
RUN uvx black --version
