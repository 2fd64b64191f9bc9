"""What every room uses: configurations, errors, files, threads and the terminal. Nothing here knows of speech."""
