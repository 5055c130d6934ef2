//! Functions for tests; see `examples/`.
