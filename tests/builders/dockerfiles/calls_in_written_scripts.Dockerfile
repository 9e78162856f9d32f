FROM python:3.11-slim
RUN echo '#!/bin/sh\n\
set -e\n\
pip install "flask>=3"' > /tmp/flask.sh && chmod +x /tmp/flask.sh
RUN <<END
cat > /opt/torch.sh <<'SCRIPT'
python -m pip install torch==2.8.0
SCRIPT
echo "uv pip install --system httpx" | tee /opt/httpx.sh /opt/unused.sh
END
WORKDIR /opt
RUN /tmp/flask.sh
RUN bash -e ./torch.sh
RUN sh httpx.sh
