"""A teacher teaches a compact wav2vec2 to hear as it does, without labels."""
