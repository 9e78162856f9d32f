FROM python:3.11-slim
COPY libs /libs
RUN pip install /libs/tool-*
RUN pip install --no-deps /libs/*.whl
RUN pip download -d /fetched flask && pip install /fetched/*
