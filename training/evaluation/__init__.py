"""What a bundle is worth: figures of the served score of whole clips, and what they depend on."""
