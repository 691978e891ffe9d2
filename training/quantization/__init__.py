"""A bundle → the same bundle with a reduced precision, if it answers as fp32 does."""
