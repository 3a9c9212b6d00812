//! Prints one line and ends: what a guest costs before it does any work. It uses no model.

fn main() {
    println!("hello from a guest");
}
