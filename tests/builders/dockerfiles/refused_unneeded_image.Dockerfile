FROM python:3.11-slim AS service
RUN pip install flask
FROM Example/Tools AS unneeded
FROM service
