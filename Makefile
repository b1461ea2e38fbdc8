# What a contributor runs daily. CI runs .ci/run.
.PHONY: test test-quick lint types docs structure
test:
	pytest
test-quick:
	pytest -m "not slow"
lint:
	ruff check . && ruff format --check .
types:
	mypy
docs:
	mkdocs build --strict
structure:
	python tools/structure.py
