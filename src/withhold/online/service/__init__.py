"""The service: a protector behind HTTP, with clients, limits, jobs, metrics and logs. It needs the extra `serve`."""
