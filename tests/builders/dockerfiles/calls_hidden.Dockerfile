FROM ubuntu:24.04
COPY wheels /opt/wheels
RUN find /opt/wheels -name 'tool-*.whl' -exec pip install {}[gpu] \;
RUN echo "pip install flask" | bash
RUN /opt/vendor/python.sh -m pip install "torch==2.8.0"
RUN ${RUNNER_PYTHON} -m pip install flask
RUN retry --times 3 pip3 --quiet install flask
RUN scl enable python39 'uv pip install --system flask'
