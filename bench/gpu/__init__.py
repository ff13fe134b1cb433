"""Parts of `make gpu`: find the machine's tools, build for its chip, check, measure."""
