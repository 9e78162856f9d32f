FROM python:3.11-slim AS base
ONBUILD COPY requirements.txt /usr/src/app/
ONBUILD RUN pip install -r /usr/src/app/requirements.txt
FROM base
RUN pip install gunicorn
