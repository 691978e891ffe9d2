"""How often the canary's judge errs, by resampling what was measured: docs/canary-statistics.md.

predictions.csv has what two trained bundles say of the same validation clips, latencies.csv the
latencies of two servers of one bundle under the same load; both are made by this package.
"""
