//! Downloads and bootstrapped bases, kept by digest.
