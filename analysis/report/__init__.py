"""Published numbers beside measured ones, decks and exports."""
