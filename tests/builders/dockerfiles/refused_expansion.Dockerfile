FROM python:3.11-slim
WORKDIR /srv/${NAME^^}
RUN pip install flask
