"""Answers are read one by one, and added up.

The coordinator sees each client's change, and from one change its data can often be restored. The
broker sees none where links are encrypted and it is not hostile: it decrypts what it carries.
"""

MASKS = False
