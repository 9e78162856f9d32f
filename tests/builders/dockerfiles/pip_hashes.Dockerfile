FROM python:3.11-slim
COPY requirements/prod.txt requirements/
RUN python -m pip install --require-hashes --no-deps -r requirements/prod.txt
