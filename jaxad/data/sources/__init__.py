"""Where image sets come from: one file for every kind of source."""
