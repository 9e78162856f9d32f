FROM python:3.12-slim
RUN echo "[global]" > /etc/pip.conf && pip install flask
RUN pip config --global set global.timeout 60 && pip install flask
RUN cd /etc && sed -i s/60/90/ pip.conf && python -m pip install flask && uv pip install --system httpx
RUN cp /opt/uv.toml /etc/uv/ && uv pip install --system flask
RUN find /req -name '*.txt' -exec pip install -r {} + && rm -f /etc/pip.conf
RUN pip config set global.timeout 60 && cat /etc/pip.conf && pip install flask
RUN echo "[global]" > /etc/pip.conf
