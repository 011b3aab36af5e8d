//! Promises kept by the whole program, or by whole rooms of it.

mod keeper;
