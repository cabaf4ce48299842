"""What settings say about TLS and credentials, as each client wants it: tls.py (PEM files), kafka.py, http.py.

Redis has one place where it is connected to, lookups/connection.py.
"""
