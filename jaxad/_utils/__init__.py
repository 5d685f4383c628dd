"""What knows nothing of anomaly detection: compiler options, files, random trees."""
