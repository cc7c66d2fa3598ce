"""Confined execution of untrusted code, judged from outside. See pool.py."""

from protocol.errors import SandboxUnavailable
from reward_workers.sandbox.jobs import IO, Case, Limits, Result, Verdict
from reward_workers.sandbox.pool import SandboxPool

__all__ = ["IO", "Case", "Limits", "Result", "SandboxPool", "SandboxUnavailable", "Verdict"]
