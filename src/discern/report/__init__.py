"""Tables, figures and the one-page report, made from result files alone.

Reads every file by the path grammar, so it works on a finished, a partial and a failed run alike.
"""
