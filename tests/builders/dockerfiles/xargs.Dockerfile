FROM python:3.11-slim
COPY requirements.txt .
RUN grep -v '^#' requirements.txt | xargs -n 1 pip install
