"""Chaos: clients that check every reply, while everything around mongoguard fails.

The law, for any fault in front of mongoguard, behind it, and in it:

1. No wrong reply. Every reply is checked against its request: a client reads and writes documents that only it knows,
   each read brings a token of its own back, and what was not acknowledged is looked for afterwards. With retryable
   writes an acknowledged write is there exactly once, any other at most once.
2. No privilege confusion. Every client is a user with a database of its own; what it may not is refused with 13 in the
   middle of it all, and its currentOp shows its own operations only. A role that is taken away or given back counts for
   whatever is sent after the acknowledgement, on every connection.
3. No hang: every operation ends within the deadline that its client has set.
4. Recovery: every client succeeds within 5 s after the upstream itself answers a direct client again.
5. No leak: afterwards sockets, threads, upstream connections, operations and memory are what they were before.

`ledger` says what a client may be told, `driver_client`, `raw_client` and `rights_client` are the clients, `clients` is the process that
they run in; `deployment` is what they are let loose on, `faults` what happens to it, `footprint` what mongoguard holds;
`storm` puts a storm together, `verdict` judges it. `python -m tests.chaos` goes on for as long as one likes.
"""
