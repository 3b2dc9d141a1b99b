"""Packs: many trials in one program on one GPU.  docs/packs.md draws how the files fit together."""
