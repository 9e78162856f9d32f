# syntax=docker/dockerfile:1
FROM python:3.11-slim
COPY <<reqs.txt <<"extra.txt" /src/
torch==2.8.0
flask
reqs.txt
gunicorn
extra.txt
RUN <<-EOF
	set -eux
	# a comment
	pip install -r /src/reqs.txt
	pip install -r /src/extra.txt
	EOF
RUN python3 <<EOF
print("RUN pip is only text here")
EOF
CMD ["true"]
