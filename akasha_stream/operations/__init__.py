"""What an operator asks of a running system, measured from outside: its workers, its lag, its state."""
