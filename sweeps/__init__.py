"""The scripts a user runs."""
