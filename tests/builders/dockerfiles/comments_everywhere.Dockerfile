# A comment first.

FROM python:3.11-slim
# syntax=too/late
RUN apt-get clean && \
    # the framework
    pip install \
      # pinned, see issue 3
      torch==2.8.0 \

      flask \
#     at the margin
    && true
