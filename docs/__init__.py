"""Sources of the documentation, and the command that writes listings and tables into its pages."""
