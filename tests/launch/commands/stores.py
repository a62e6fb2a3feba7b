"""What a store holds, for tests of commands."""

from scaling.store.store import Store


def names(store: Store) -> list[str]:
    """Returns the fingerprints of a store's cells."""
    return sorted(path.parent.name for path in store.path.glob("cells/*/cell.json"))
