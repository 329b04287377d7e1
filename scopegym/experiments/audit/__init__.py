"""Whether a reward measures what it should, and whether it can be fooled."""

from scopegym.experiments.audit.run import audit as audit
