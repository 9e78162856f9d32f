FROM python:3.11-slim
ENV PIP_FIND_LINKS=/wheels PIP_NO_INDEX=off
RUN pip install flask
