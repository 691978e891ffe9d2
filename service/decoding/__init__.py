"""Clips decoded in processes of their own, so that what breaks libsndfile breaks nothing else.

`pool` is what the server uses, `process` is what runs in a decoder, and `child` is the server's end
of one. All of them call `service.audio.decode`: where it runs is all that differs.
"""
