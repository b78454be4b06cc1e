"""BYTES <-> MESSAGES: framing, OP_MSG, OP_QUERY, OP_COMPRESSED, and BSON read in place. No meaning of commands."""
