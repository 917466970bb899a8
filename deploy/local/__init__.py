"""The whole suite as plain processes, without Docker.

Everything here but `mailcatcher` needs only Python's standard library,
for it runs before the virtual environment exists.
"""
