"""The load harness and the reference server it compares with. Figures are ratios from one run on one machine."""
