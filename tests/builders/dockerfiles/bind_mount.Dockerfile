FROM python:3.11-slim
WORKDIR /srv
RUN --mount=type=bind,source=pyproject.toml,target=pyproject.toml \
    --mount=type=bind,source=constraints.txt,target=/tmp/constraints.txt \
    --mount=type=secret,id=netrc,target=/root/.netrc \
    python -m pip install -c /tmp/constraints.txt -e .[gpu]
