"""What is fed to the program by ``benchmarks/fuzz.py``: damaged and hostile files, made from a seed each."""
