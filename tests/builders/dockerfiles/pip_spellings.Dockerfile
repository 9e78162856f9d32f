FROM python:3.11-slim
RUN pip3 install one
RUN pip3.11 install two
RUN python -m pip install three
RUN python3.11 -m pip --disable-pip-version-check install four
RUN /usr/local/bin/pip install five
RUN python3 -Im pip install six
RUN sudo -H env PIP_PROGRESS_BAR=off pip install seven
