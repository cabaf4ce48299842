"""The event itself: model, wire format, validation, redaction."""
