FROM python:3.12-slim
RUN pip wheel -w /wheels --no-binary lxml,numpy --no-binary :none: lxml
RUN pip wheel -w /wheels --no-binary lxml lxml
RUN PIP_NO_BINARY=:all: pip install --user numpy
RUN pip install uv && uv pip install --system --no-binary lxml lxml
WORKDIR /app
COPY pyproject.toml uv.lock ./
RUN uv sync --frozen --no-binary-package lxml
ENV UV_NO_BINARY=1
RUN uv sync --frozen
