"""How well missing electrodes, gaps and continuations are restored: scenarios, baselines, metrics and the report."""
