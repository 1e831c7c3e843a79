//! The scheduler from outside: tables for each filter, and properties judged by a naive checker that shares nothing with it.

#[path = "schedule/filters.rs"]
mod filters;
#[path = "schedule/generate.rs"]
mod generate;
#[path = "schedule/naive.rs"]
mod naive;
#[path = "schedule/properties.rs"]
mod properties;
