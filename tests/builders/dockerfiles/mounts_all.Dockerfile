FROM python:3.11-slim
RUN --mount=type=cache,target=/root/.cache/pip \
    --mount=type=secret,id=netrc,target=/root/.netrc,mode=0400 \
    --mount=type=ssh \
    --mount=type=tmpfs,target=/tmp,size=1g \
    --mount=type=bind,source=requirements.txt,target=/tmp/requirements.txt \
    pip install -r /tmp/requirements.txt
