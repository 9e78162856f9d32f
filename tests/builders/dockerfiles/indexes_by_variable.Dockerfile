FROM python:3.11-slim
ARG PIP_INDEX_URL=https://mirror.example/simple
ENV PIP_EXTRA_INDEX_URL="https://one.example/simple https://two.example/simple" PIP_DEFAULT_TIMEOUT=100
RUN pip install flask
RUN PIP_INDEX_URL=https://three.example/simple pip install gunicorn
RUN pip config set global.index-url https://four.example/simple && pip install uvicorn
