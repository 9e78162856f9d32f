ARG CUDA=12.8
FROM pytorch/pytorch:2.8.0-cuda${CUDA}-cudnn9-runtime
RUN apt-get update && apt-get install -y --no-install-recommends libgl1 && rm -rf /var/lib/apt/lists/*
COPY requirements.txt /tmp/requirements.txt
RUN pip install -r /tmp/requirements.txt
