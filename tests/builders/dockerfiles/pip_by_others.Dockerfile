FROM python:3.12-slim
RUN pip install pip-tools && pip-compile requirements.in
RUN python -m piptools sync requirements.txt
RUN pip install build && python -m build --wheel
RUN python -m build --no-isolation
RUN flit install
RUN tox -e all --notest
RUN nox --install-only
RUN chroot /rootfs pip install flask
RUN $(which pip) install flask && python3 "$(command -v pip3)" install httpx && pip-3.12 install attrs
RUN python -c 'import pip; pip.main(["install", "flask"])'
RUN test -n "$(which pip)" && python -c 'import pip; print(pip.__version__)'
