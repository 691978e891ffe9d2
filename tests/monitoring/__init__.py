"""What watches a release: rules, dashboard, and the Prometheus and adapter of k8s/."""
