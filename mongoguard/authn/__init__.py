"""WHO ARE YOU: sans-IO conversations, one per mechanism, and the SASL state machine of a connection."""
