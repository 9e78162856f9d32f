# syntax=docker/dockerfile:1.7-labs
# escape=`
FROM scratch
COPY a b
FROM python:3.11-slim
RUN pip install `
    --no-cache-dir torch
