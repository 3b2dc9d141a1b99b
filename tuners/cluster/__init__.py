"""Everything that only several machines need: joining them, judging them, submitting to them."""
