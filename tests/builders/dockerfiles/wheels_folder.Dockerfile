FROM python:3.11 AS wheels
COPY requirements.txt /tmp/
RUN pip wheel --no-deps -w /wheels -r /tmp/requirements.txt
FROM python:3.11-slim
COPY --from=wheels /wheels /wheels
RUN ["pip", "install", "--no-index", "--find-links=/wheels", "torch"]
RUN pip install /wheels/*.whl
