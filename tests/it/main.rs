//! What the program promises, as tests of what a user or a forge can see.

mod world;

mod receiving;

mod journey;

mod stopping;

mod handed_over;

mod killed;
mod troubled;

mod catching_up;
mod faulty;

mod put_back;
mod queueing;
mod unreadable;

mod order;

mod meaning;

mod siblings;
mod telling;

mod operating;

mod asking;

mod doctoring;

mod releasing;

mod keeper;

mod documents;

mod architecture;
