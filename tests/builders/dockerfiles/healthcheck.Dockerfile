FROM python:3.11-slim
RUN pip install flask
EXPOSE 8000/tcp
VOLUME ["/data"]
STOPSIGNAL SIGINT
HEALTHCHECK --interval=30s --timeout=3s --start-period=5s --retries=3 CMD curl -f http://localhost:8000/ || exit 1
ENTRYPOINT ["gunicorn"]
CMD ["-b", ":8000", "app:app"]
