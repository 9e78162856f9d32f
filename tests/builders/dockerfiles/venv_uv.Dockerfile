ARG PYTHON=3.11
FROM python:${PYTHON}-slim
ENV VIRTUAL_ENV=/opt/venv PATH="/opt/venv/bin:$PATH"
RUN pip install uv && uv venv /opt/venv
COPY requirements/ requirements/
RUN --mount=type=cache,target=/root/.cache/uv \
    uv pip install --no-cache-dir \
      -r requirements/base.txt \
      # the gpu part
      -r requirements/gpu.txt
