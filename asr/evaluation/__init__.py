"""Error rates and where the errors are, as numbers, figures and pages."""
