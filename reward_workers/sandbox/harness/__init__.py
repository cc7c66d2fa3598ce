"""What runs inside the confined process. Standard library only; imports nothing from outside."""
