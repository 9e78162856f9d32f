FROM python:3.11-slim
# dépendances
ENV GREETING="été"
RUN pip install flask && echo "é"
