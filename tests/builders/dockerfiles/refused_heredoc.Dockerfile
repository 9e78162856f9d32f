FROM python:3.11-slim
RUN <<EOF
pip install flask
