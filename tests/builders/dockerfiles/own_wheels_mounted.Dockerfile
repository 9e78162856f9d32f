FROM python:3.11-slim
RUN --mount=type=bind,source=wheels,target=/wheelcache/ pip install --no-index --find-links /wheelcache flask
