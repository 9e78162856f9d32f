FROM python:3.11@sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef AS build
RUN python -m venv /opt/venv && . /opt/venv/bin/activate && pip install torch==2.8.0
FROM gcr.io/distroless/python3
COPY --from=build /opt/venv /opt/venv
USER nonroot
