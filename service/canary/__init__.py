"""Whether a new model version is as good as the one it is to replace: docs/canary.md.

Nothing here runs in a serving pod: what serves hands its clips on in service/shadow.py.
"""
