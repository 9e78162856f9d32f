FROM python:3.11-slim
RUN pip install flask git+https://user:secret@code.example/tool.git@v1
RUN pip install "tool @ git+ssh://git@code.example/tool.git"
RUN pip install https://code.example/archive/tool-1.0.tar.gz
