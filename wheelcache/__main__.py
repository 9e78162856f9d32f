"""Lets `python -m wheelcache` do what the console script does."""

from wheelcache.cli import main

main()
