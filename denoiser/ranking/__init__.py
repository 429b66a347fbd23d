"""Runs against each other: grouped, sorted, compared, shown and heard."""
