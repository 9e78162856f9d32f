FROM continuumio/miniconda3
SHELL ["conda", "run", "-n", "base", "/bin/bash", "-c"]
RUN pip install flask
