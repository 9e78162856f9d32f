FROM --platform=$BUILDPLATFORM node:20 AS web
WORKDIR /web
COPY package*.json ./
RUN npm ci
FROM --platform=linux/amd64 python:3.11-slim
ARG TARGETARCH
RUN if [ "$TARGETARCH" = "arm64" ]; then pip install only-arm; else pip install "cpu-$(uname -m)"; fi
COPY --from=web /web/dist /srv
