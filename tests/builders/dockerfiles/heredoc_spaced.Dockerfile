FROM python:3.11-slim
RUN cat << EOF > /etc/app.conf
FROM nothing
RUN pip install only-text
EOF
RUN echo $((1 << 4)) && pip install flask
