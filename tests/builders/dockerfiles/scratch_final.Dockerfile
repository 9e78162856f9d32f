FROM python:3.11-slim AS build
RUN pip install --root /out flask
FROM scratch
COPY --from=build /out /
