FROM python:3.11-slim
RUN ["pip", "install", "--no-cache-dir", "flask"]
RUN ["/bin/bash", "-c", "pip install gunicorn && echo \"done\""]
RUN [ "python3", "-m", "pip", "install", "uvicorn" ]
