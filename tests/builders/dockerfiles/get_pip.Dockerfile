FROM nvidia/cuda:12.8.1-runtime-ubuntu22.04
RUN apt-get update && apt-get install -y curl python3.11 python3.11-distutils
RUN curl -sS https://bootstrap.example/get-pip.py | python3.11
ADD https://bootstrap.example/get-pip.py /tmp/get-pip.py
RUN python3.11 /tmp/get-pip.py --no-wheel "pip<25"
RUN python3.11 -m pip install flask
