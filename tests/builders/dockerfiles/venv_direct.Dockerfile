FROM python:3.11-slim
RUN virtualenv --system-site-packages /opt/venv
RUN /opt/venv/bin/pip install flask && /opt/venv/bin/python -m pip install gunicorn
