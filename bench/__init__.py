"""Benchmarks: interleaved, in one process or in paired processes; they print ratios and assert nothing."""
