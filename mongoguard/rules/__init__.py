"""WHICH documents and fields: not built yet; the room is kept so that its place in the import order is fixed."""
