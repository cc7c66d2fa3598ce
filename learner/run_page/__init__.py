"""The run page: a run folder shown in a browser, while the run goes on and after it."""
