ARG REGISTRY
FROM ${REGISTRY}
RUN pip install flask
