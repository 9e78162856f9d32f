FROM python:3.11-slim
RUN --network=none --mount=type=cache,target=/root/.cache/pip,sharing=locked pip install flask
RUN --network=host pip install gunicorn
