//! What the program promises, as tests of what a user or a forge can see.

mod architecture;
mod keeper;
