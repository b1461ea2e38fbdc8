# What a contributor runs daily. CI runs .ci/run.
.PHONY: test lint types docs structure
test:
	pytest
lint:
	ruff check . && ruff format --check .
types:
	mypy
docs:
	mkdocs build --strict
structure:
	python tools/structure.py
