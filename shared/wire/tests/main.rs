//! Requests as anybody may send them.

mod bad_input;
mod corpus;
mod requests;
