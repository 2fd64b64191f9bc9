"""What a model folder holds: a trained recogniser with everything that surrounds it."""
