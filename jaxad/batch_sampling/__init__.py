"""Neural batch sampling (Chu, CMU-RI-TR-20-09, 2020; Chu & Kitani, ECCV 2020): defects from a few labelled images."""
