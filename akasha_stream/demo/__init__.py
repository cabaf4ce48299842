"""The demo: real servers, a real worker, a bundled sample of real events, and figures that were measured."""
