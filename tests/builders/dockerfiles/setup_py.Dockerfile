FROM python:3.11-slim
COPY . /src
RUN cd /src && python setup.py install
