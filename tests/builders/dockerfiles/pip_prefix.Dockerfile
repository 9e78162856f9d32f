FROM python:3.11-slim AS build
COPY requirements.txt /
RUN pip install --prefix=/install --no-warn-script-location -r /requirements.txt
FROM python:3.11-slim
COPY --from=build /install /usr/local
