"""The grammars of rules files: native, and those of rinetd, rinetd-uv, oxidinetd and realm."""
