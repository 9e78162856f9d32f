FROM python:3.11-slim AS tools-a
FROM python:3.11-slim
ARG KIND=a
COPY --from=tools-${KIND} /usr/local /usr/local
RUN pip install flask
