FROM python:3.11-slim
COPY requirements.txt .
RUN sed -i '/torch/d' requirements.txt && pip install -r requirements.txt
RUN echo flask > /tmp/more.txt && pip install -r /tmp/more.txt
