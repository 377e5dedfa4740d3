"""The renditions of a phantom's test films: drawn again without one cause."""

# Of each cause: what its rendition is called after.
_SUFFIXES = {'shortcut': 'without_shortcut', 'lesion': 'without_lesions'}
# The folders of their films, and their splits: rows as those of 'test'.
FOLDERS = {cause: f'images_{suffix}' for cause, suffix in _SUFFIXES.items()}
SPLITS = {cause: f'test_{suffix}' for cause, suffix in _SUFFIXES.items()}
