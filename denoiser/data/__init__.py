"""From folders of noisy and clean files to batches of scaled magnitude patches."""
