"""Real drivers of many languages, each run against mongod and against mongoguard in front of it (`tox -e clients`)."""
