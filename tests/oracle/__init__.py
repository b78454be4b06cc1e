"""The differential rig: the same user, the same command, on mongod directly and through mongoguard; every decision compared.

`python -m tests.oracle` (tox -e oracle) runs the whole table, and then random users and commands for ORACLE_SECONDS.
tests/integration/test_oracle.py runs the table alone. Differences that are meant are rows of `accepted.py`.
"""
