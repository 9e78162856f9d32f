FROM python:3.11-slim
COPY docker/ /docker/
RUN /docker/install.sh && bash /docker/more.sh
ENTRYPOINT ["/docker/entrypoint.sh"]
