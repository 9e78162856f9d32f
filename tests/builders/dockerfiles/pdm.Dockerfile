FROM python:3.11-slim
RUN pip install pdm
COPY pyproject.toml pdm.lock ./
RUN pdm sync --prod --no-editable
