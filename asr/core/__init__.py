"""What every room uses: configurations, errors, files, threads, the terminal; no speech in it."""
