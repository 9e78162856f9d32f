FROM python:3.11-slim
RUN pip install huggingface_hub && hf download org/model
RUN pip install cmake && cmake -S /src -B /build
RUN pip install spacy && python -m spacy download en_core_web_sm
RUN pip install nltk && python -c "import nltk; nltk.download('punkt')"
RUN pip install flask && python -c "import flask" && rm -rf ~/.cache
