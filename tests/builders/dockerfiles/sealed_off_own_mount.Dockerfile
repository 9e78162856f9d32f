FROM python:3.11-slim
RUN --mount=type=secret,id=pip,target=/etc/pip.conf,required=true pip install flask
