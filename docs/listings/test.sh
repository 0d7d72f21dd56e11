python3 -m venv .venv && .venv/bin/pip install -q -e '.[test]' && .venv/bin/python -m twisted.trial -j2 tests
