"""The libraries that ddim is timed and judged against, each driven the way its own documentation drives it."""
