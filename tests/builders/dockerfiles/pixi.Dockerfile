FROM ghcr.io/prefix-dev/pixi:0.40.0
COPY . .
RUN pixi install --locked
