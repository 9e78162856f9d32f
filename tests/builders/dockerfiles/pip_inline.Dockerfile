FROM python:3.11-slim
RUN pip install --no-cache-dir "torch==2.8.0" 'uvicorn[standard]>=0.30' flask~=3.0 \
 && pip check
