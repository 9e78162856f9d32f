FROM python:3.11-slim AS Deps
COPY requirements.txt /r/
FROM deps AS wheels
RUN pip wheel -w /w -r /r/requirements.txt
FROM python:3.11-slim
COPY --from=WHEELS /w /w
COPY --from=0 /r /r
RUN pip install --no-index -f /w -r /r/requirements.txt
