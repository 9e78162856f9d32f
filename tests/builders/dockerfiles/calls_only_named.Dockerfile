FROM ubuntu:24.04
RUN apt-get update && apt-get install --yes python3-pip python3-wheel
RUN echo "To add tools: pip install --user NAME" > /etc/motd
RUN sed -i 's/pip install/uv pip install/' /etc/motd && grep -q "uv pip install" /etc/motd
