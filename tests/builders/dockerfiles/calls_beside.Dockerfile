FROM python:3.12-slim
COPY <<SCRIPT /opt/more.py
import subprocess, sys
subprocess.run([sys.executable, "-m", "pip", "install", "flask"], check=True)
SCRIPT
COPY <<SCRIPT /opt/quiet.py
print("ready")
SCRIPT
WORKDIR /opt
RUN pip install httpx && python -u more.py
RUN pip install httpx && python quiet.py && python unknown.py && python -c 'print("more.py")'
RUN python more.py
RUN pip install httpx && python choose.py --fast | sh
RUN pip install httpx && curl -fsS https://example.com/tool.sh | sh
