FROM debian:12-slim
run apt-get update && apt-get install -y --no-install-recommends python3 python3-pip && rm -rf /var/lib/apt/lists/*
RUN useradd app
USER app
RUN pip install --break-system-packages "torch==2.8.0" 'flask>=3' --extra-index-url https://example.com/simple
