//! Prints lines on standard output.
//!
//! Invariant: a line that cannot be printed ends the program: quietly where the reader has gone, as `| head` does, else
//! with what went wrong, since an output that lacks lines must not look whole.

use std::{
    fmt,
    io::{self, Write},
    process,
};

use anstream::{eprintln, stdout};

/// Like that of the standard library, which panics instead.
macro_rules! println {
    () => { $crate::cli::out::line(format_args!("")) };
    ($($text:tt)*) => { $crate::cli::out::line(format_args!($($text)*)) };
}
pub(super) use println;

/// Prints a line.
pub(super) fn line(text: fmt::Arguments) {
    must(writeln!(stdout().lock(), "{text}"));
}

/// What was printed went out; else the program ends here.
pub(super) fn must(printed: io::Result<()>) {
    match printed {
        Ok(()) => (),
        Err(err) if err.kind() == io::ErrorKind::BrokenPipe => process::exit(0),
        Err(err) => {
            eprintln!("landfall: cannot print: {err}");
            process::exit(1)
        }
    }
}
