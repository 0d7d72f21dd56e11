"""Everything put together: the tap, the build of a rules file, start, drain and stop."""
