"""Proximal policy optimisation, compiled a segment at a time."""
