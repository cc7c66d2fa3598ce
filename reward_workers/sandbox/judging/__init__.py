"""One candidate's run as the trusted side sees it: asked, metered, compared, given a verdict."""
