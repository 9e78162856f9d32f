FROM python:3.11-slim
COPY requirements.txt .
RUN pip install --target /opt/layer -r requirements.txt
FROM gcr.io/distroless/python3
COPY --from=0 /opt/layer /opt/layer
ENV PYTHONPATH=/opt/layer
