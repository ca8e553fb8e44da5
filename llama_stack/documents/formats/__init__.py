"""One reader a format: `read_...(content, builder)` adds what it finds to a `DocumentBuilder`."""
