FROM python:3.11-slim
ENV PIP_NO_CACHE_DIR=1 FLASK
RUN pip install flask
