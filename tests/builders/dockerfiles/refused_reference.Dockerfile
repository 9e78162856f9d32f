FROM python:3.11-slim AS Base
FROM Base
RUN pip install flask
