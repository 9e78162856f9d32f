FROM python:3.11-slim
RUN pip install --index-url https://wheels.example/cu128 torch==2.8.0
RUN pip install --extra-index-url https://user:secret@private.example/simple --trusted-host private.example shop-models
RUN pip install -f https://wheels.example/pyg torch-scatter
RUN pip install flask
