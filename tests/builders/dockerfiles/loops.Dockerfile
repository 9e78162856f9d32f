FROM python:3.11-slim
RUN for package in flask gunicorn; do pip install "$package"; done
RUN for i in 1 2 3; do pip install torch && break || sleep 5; done
COPY reqs /reqs
RUN for file in /reqs/*.txt; do pip install -r "$file"; done
