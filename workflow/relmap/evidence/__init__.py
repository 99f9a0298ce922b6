"""From maps and scores to tables and verdicts: stores, statistics, filled tables, claims."""
