FROM python:3.12-slim
COPY --from=ghcr.io/astral-sh/uv:0.9 /uv /bin/
COPY pyproject.toml uv.lock /tmp/deps/
RUN cd /tmp/deps && uv sync --frozen && rm -rf /tmp/deps
COPY . /app
WORKDIR /app
RUN uv sync --frozen && rm -rf "$HOME/.cache" "$(cat where)" /tmp/* && chown nobody /app && sed s/a/b/ uv.lock > /tmp/lock
RUN cd "$(cat where)" && rm -rf * && cd /app && uv sync --frozen && cp uv.lock /tmp/
RUN uv sync --frozen && chown -hR nobody .
COPY pyproject.toml uv.lock /last/
RUN cd /last && sed -i s/one/other/ uv.lock && uv sync --frozen
RUN chmod -R a+r /last && rm uv.lock
