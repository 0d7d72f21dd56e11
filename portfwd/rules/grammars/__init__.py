"""The grammars of rules files: native, rinetd and rinetd-uv, oxidinetd's TOML."""
