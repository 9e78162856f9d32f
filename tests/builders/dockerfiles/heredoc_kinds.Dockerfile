FROM python:3.11-slim
RUN <<EOF
set -e
pip install one
EOF
RUN <<-'EOF'
	pip install two==${NOT_EXPANDED_BY_BUILDKIT:-2}
	EOF
RUN bash -ex <<"END OF SCRIPT"
pip install three
END OF SCRIPT
RUN <<ONE bash && cat <<TWO
pip install four
ONE
pip install only-text
TWO
RUN <<EOF
#!/usr/bin/env python3
print("no shell")
EOF
