FROM python:3.11-slim
ARG GPU=0
ARG MODE
COPY requirements.txt requirements-dev.txt ./
RUN if [ "$GPU" = "1" ]; then pip install torch-gpu; else pip install torch-cpu; fi
RUN case "$GPU" in 1|yes) pip install cuda-tools ;; *) echo none ;; esac
RUN [ -z "$MODE" ] || pip install $MODE
RUN if [ -f requirements-dev.txt ]; then pip install -r requirements-dev.txt; fi
RUN test "$GPU" = 0 && pip install -r requirements.txt
