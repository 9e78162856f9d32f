FROM python:3.11-slim AS base
SHELL ["/bin/bash", "-o", "pipefail", "-c"]
ONBUILD RUN pip install never-here
RUN pip install numpy && curl -fsSL https://example.com/model.bin -o /model.bin
RUN --network=default pip install scipy
RUN --mount=type=bind,source=wheels,target=/wheelcache pip install --no-index --find-links /wheelcache pandas
FROM base
