from python:3.11-slim as Builder
	run	pip   install	flask
Run \
\
  pip install gunicorn \
\

env A 1
wOrKdIr /app
