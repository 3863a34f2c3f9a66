"""`fedmqtt watch` on a terminal: panels to look at, to sort, to filter and to freeze."""
