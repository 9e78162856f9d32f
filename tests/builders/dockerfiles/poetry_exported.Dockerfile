FROM python:3.11-slim AS requirements
RUN pip install poetry poetry-plugin-export
COPY pyproject.toml poetry.lock ./
RUN poetry export -o /requirements.txt
FROM python:3.11-slim
COPY --from=requirements /requirements.txt .
RUN pip install -r requirements.txt
