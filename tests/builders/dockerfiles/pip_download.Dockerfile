FROM python:3.11-slim AS fetch
RUN pip download -d /wheels torch==2.8.0 && ls /wheels
FROM python:3.11-slim
RUN --mount=type=bind,from=fetch,source=/wheels,target=/wheels pip install --no-index --find-links=/wheels torch
