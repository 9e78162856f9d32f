FROM python:3.11-slim AS base
RUN pip install flask
FROM base AS test
RUN pip install pytest
FROM base
COPY . /app
