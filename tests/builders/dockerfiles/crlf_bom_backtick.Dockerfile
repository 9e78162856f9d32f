# escape=`
FROM python:3.11-slim
WORKDIR C:\app
RUN pip install `
  # why

  torch `
  flask
