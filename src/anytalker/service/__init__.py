"""The queue of videos over HTTP: what may come in and from whom, the API, events, webhooks, metrics."""
