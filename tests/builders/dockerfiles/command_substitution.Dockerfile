FROM python:3.11-slim
COPY requirements.txt version.txt ./
RUN pip install $(cat requirements.txt)
RUN pip install tool==`cat version.txt`
