"""What an evaluation shows: summaries, plots, the page."""
