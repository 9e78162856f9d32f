FROM python:3.11-slim
ONBUILD COPY requirements.txt /usr/src/app/
ONBUILD RUN pip install -r /usr/src/app/requirements.txt
