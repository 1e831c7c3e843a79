//! Exactly what a build is made of.
