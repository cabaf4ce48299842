"""Who calls, and what they may do: keys.py, oidc.py and authentication.py say who; caller.py and systems.py, what.

Where it is enforced: akasha_stream/api/access.py.
"""
