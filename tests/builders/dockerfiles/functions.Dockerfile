FROM python:3.11-slim
RUN install() { pip install --no-cache-dir "$@"; }; retry() { pip install "$1" || pip install "$1"; }; retry flask
