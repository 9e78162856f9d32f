FROM company/fastapi-base:1
COPY ./requirements.txt /app
RUN pip install -r requirements.txt
