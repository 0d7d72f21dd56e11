"""
The work that contestants are given, one file each, and the list of rows.

A row starts the servers it needs, is handed a running contestant, and returns
figures. Every load ends by count or by time.
"""
