"""Which recipe is better, on speakers or corpora that it was not trained on."""
