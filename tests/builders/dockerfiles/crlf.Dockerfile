FROM python:3.11-slim
COPY requirements.txt .
RUN pip install \
    -r requirements.txt \
    flask
RUN <<EOF
pip install gunicorn
EOF
