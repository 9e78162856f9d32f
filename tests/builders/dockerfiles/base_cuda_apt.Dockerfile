FROM nvidia/cuda:12.8.1-cudnn-runtime-ubuntu22.04
ENV DEBIAN_FRONTEND=noninteractive
RUN apt-get update \
 && apt-get install -y python3 python3-pip \
 && ln -s /usr/bin/python3 /usr/bin/python \
 && python -m pip install --upgrade pip
RUN python -m pip install torch==2.8.0 --index-url https://wheels.example/cu128
