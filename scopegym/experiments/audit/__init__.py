"""Does a reward measure what it means to, and can it be fooled?"""

from scopegym.experiments.audit.run import audit as audit
