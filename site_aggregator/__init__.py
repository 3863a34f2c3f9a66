"""A site: an ordinary client of the centre, and a coordinator of devices of its own."""
