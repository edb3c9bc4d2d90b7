//! The migrations are part of the program: without this a new one is not noticed.

fn main() {
    println!("cargo:rerun-if-changed=../../migrations");
}
