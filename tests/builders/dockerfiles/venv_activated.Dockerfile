FROM python:3.11-slim
WORKDIR /srv
COPY requirements.txt .
RUN python3 -m venv venv && . venv/bin/activate && pip install -r requirements.txt
RUN bash -c "source venv/bin/activate && pip install gunicorn"
