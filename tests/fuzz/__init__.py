"""Parsers against arbitrary bytes, guided by coverage (atheris), for FUZZ_SECONDS in all: `tox -e fuzz`."""
