FROM python:3.11-slim
COPY <<EOF /app/requirements.txt
flask==3.0.3
EOF
COPY --chmod=755 <<"EOF" /usr/local/bin/setup
#!/bin/sh
pip install -r /app/requirements.txt gunicorn
EOF
RUN /usr/local/bin/setup
