"""What is said of searches: tables of rewards, benchmarks of strategies, summaries, drawings."""
