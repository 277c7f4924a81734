"""What two or more pages share: state in the URL, caches, pickers, layout, galleries, errors, downloads."""
