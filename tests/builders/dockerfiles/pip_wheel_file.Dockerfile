FROM python:3.11-slim
COPY dist/*.whl /tmp/
RUN pip install --no-deps /tmp/tool-1.0-py3-none-any.whl && rm /tmp/*.whl
COPY vendor/ /vendor/
RUN pip install '/vendor/other-1.0-py3-none-any.whl[gpu]'
RUN pip install /vendor/*.whl
RUN pip install /vendor/source-1.0.tar.gz
