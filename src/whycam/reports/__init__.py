"""One HTML file to send to somebody: what it shows, and how it is written. It knows no explanation."""
