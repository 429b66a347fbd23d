"""Many runs by one command: their folders, what is not repeated, what goes wrong, what ends early."""
