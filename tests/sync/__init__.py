"""Sync, modelled: a phone as docs/sync.md describes it, and what a server must do by that page."""
