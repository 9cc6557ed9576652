"""Files of other formats that hold a whole recording."""
