"""The Helm chart, as `helm template` renders it; tests/e2e installs it on a cluster."""
