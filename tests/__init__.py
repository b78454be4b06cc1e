"""The tests: unit and property tests without a server, integration tests against real ones, benchmarks."""
