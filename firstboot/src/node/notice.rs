//! What leader and members tell of themselves.
