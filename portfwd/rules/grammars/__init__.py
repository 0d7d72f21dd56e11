"""The grammars of rules files: native, rinetd and rinetd-uv, rinetd-uv's YAML, oxidinetd's TOML."""
