# syntax=docker/dockerfile:1.20-labs
FROM python:3.11-slim
WORKDIR /app
COPY --parents services/*/requirements.txt ./
COPY --exclude=*.md . .
RUN pip install -r services/api/requirements.txt
