"""The ledger: what became of every prompt, as a pure state machine. ledger.py is the machine."""
