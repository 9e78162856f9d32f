FROM python:3.11-slim
COPY Pipfile Pipfile.lock ./
RUN pip install pipenv && pipenv install --system --deploy
