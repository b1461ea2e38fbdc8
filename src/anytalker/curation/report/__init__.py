"""What a curation shows: the funnel, the numbers behind it, and clips to look at."""
