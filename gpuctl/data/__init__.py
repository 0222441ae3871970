"""Files shipped with the package: the profile schema, and in a wheel the profiles and units."""
