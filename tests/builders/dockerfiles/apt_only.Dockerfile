FROM ubuntu:24.04
RUN apt-get update && apt-get install -y python3 python3-torch && echo "pip install nothing"
