"""Measures that final CPU times add up to what the cgroups of this machine used."""
