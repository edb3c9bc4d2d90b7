//! Tests of the whole, with the programs as separate processes. Everything is in `main.rs` and its modules.
