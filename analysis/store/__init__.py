"""The cache contract: what a store is, how it is written once, read and verified. See cache/README.md."""

from analysis.errors import StoreError
from analysis.store.manifest import Derived, Manifest
from analysis.store.read import Store, StoreRef, Support, Task, TokenView, find_stores, open_store
from analysis.store.schema import SCHEMA, store_key
from analysis.store.verify import Report, verify
from analysis.store.write import StoreWriter

__all__ = [
    "SCHEMA",
    "Derived",
    "Manifest",
    "Report",
    "Store",
    "StoreError",
    "StoreRef",
    "StoreWriter",
    "Support",
    "Task",
    "TokenView",
    "find_stores",
    "open_store",
    "store_key",
    "verify",
]
