FROM continuumio/miniconda3
RUN conda install -y numpy
RUN pip install poetry
COPY pyproject.toml poetry.lock ./
RUN poetry install --no-root
RUN npm ci
