FROM python:3.11-slim
RUN if command -v nvidia-smi; then pip install torch-gpu; fi
RUN pip install flask || true
RUN python -c 'import torch' || pip install torch
