FROM python:3.12-slim
RUN V=$(cat v) && pip install "tool-$V-py3-none-any.whl" "flask==$V"
RUN "$(cat where)/bin/python3" -m pip install flask
RUN bash -c "pip install $(ls /dist/tool-*.tar.gz)[fast]"
RUN pip install "$(cat extra)"-x
