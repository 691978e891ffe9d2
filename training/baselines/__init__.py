"""What a model has to beat: simple answers to the same question, on the same speakers.

A figure says little alone: with this data clip durations, recording levels and one corpus's missing
label already tell a part of the answer. Each baseline here is a set of features and a classifier of
scikit-learn's on them; none of them ships.
"""
