"""Late interaction: encoding, first-stage quality, MaxSim and search, beside other libraries."""
