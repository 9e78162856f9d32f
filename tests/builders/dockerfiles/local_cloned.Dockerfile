FROM python:3.11-slim
RUN git clone --depth 1 https://code.example/tool.git /src/tool && pip install /src/tool
RUN git clone https://code.example/other && cd other && pip install -r requirements.txt
