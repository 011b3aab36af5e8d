//! Starts the program; everything else is in the library.

use std::process::ExitCode;

fn main() -> ExitCode {
    // Before anything else: until then other processes of this user may look into it.
    landfall::process::hidden::hide();
    landfall::cli::main()
}
