"""What makes a bundle: prepare → train → evaluate → export, each a command of its own."""
