FROM python:3.11-slim
ENV PIP_CONFIG_FILE=/etc/company/pip.conf
RUN pip install flask
