python3 -m venv .venv && .venv/bin/pip install -q -e . && .venv/bin/portfwd run -c examples/quickstart.conf
