"""The parts of `benchmarks/gpu.py`: what each measures, at true size or, to try the script itself, at a small one."""
