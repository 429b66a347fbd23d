"""Many runs by one command: folders, resuming, early ends, launchers."""
