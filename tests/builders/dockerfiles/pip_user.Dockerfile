FROM python:3.11-slim
RUN groupadd -r app && useradd -mr -g app app
USER app:app
WORKDIR /home/app
COPY --chown=app:app requirements.txt ./
RUN pip install -r requirements.txt
