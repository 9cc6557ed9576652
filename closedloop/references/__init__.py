"""Bundled natural photographs, shown when a user names no folder; CREDITS.md names authors and licences."""
