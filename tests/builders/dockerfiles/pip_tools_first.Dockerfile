FROM python:3.11-slim
COPY requirements.txt constraints.txt /tmp/
RUN pip install -U pip setuptools wheel && pip install -r /tmp/requirements.txt -c /tmp/constraints.txt && rm -rf /root/.cache
