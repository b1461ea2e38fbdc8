"""The page on which videos are made in a browser, on the same queue as the service."""
