FROM python:3.11-slim
SHELL ["/bin/bash", "-euxo", "pipefail", "-c"]
RUN yes | pip install flask > /dev/null 2>&1
