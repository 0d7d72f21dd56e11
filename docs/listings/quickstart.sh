python3 -m venv .venv && .venv/bin/pip install -q -e . && .venv/bin/twistd -n --pidfile= portfwd -c examples/quickstart.conf
