"""One module (or package) per platform. Modules here do not know each other, nor `gateway`."""
