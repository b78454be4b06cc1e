"""NOUNS: immutable values of MongoDB's access model. No behaviour beyond comparing and matching."""
