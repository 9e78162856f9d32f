FROM python:3.11-slim
ARG GPU=1
COPY req-cpu.txt req-gpu.txt ./
RUN if [ "$GPU" = 1 ]; then pip install -r req-gpu.txt; else pip install -r req-cpu.txt; fi
RUN for i in 1 2 3; do pip install -r req-cpu.txt && break; sleep 5; done
RUN pip install -r req-cpu.txt || pip install -r req-cpu.txt
RUN pip install $(cat req-cpu.txt)
RUN cat req-cpu.txt | xargs pip install
RUN pip install git+https://user:secret@example.com/x.git
