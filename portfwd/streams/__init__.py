"""The two sides of a session behind one small interface: read, write, end, abort."""
