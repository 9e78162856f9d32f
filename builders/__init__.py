"""Builds services one after another from wheelcache's store, so that no build downloads a wheel."""
