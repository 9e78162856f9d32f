FROM python:3.11-slim
RUN --mounts=type=cache,target=/x pip install flask
